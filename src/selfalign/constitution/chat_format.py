"""The chat format: one template object for training, evaluation, chat and serving (DESIGN.md section 6).

Everything that knows a delimiter of a conversation stands here. The Jinja text that `ChatFormat.template` gives is
the only definition: `render` runs it, `encode_row` cuts its output into what is read and what is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from jinja2 import Template, TemplateError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from selfalign.errors import UserError
from selfalign.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USER_HEADING = "\n\n### User\n"
ASSISTANT_HEADING = "\n\n### Assistant\n"
IGNORED = -100  # the label of a token that is read and not learnt (PyTorch's cross-entropy skips it)


class Row(NamedTuple):
    """A tokenized conversation: two lists of the same length; `labels` is IGNORED where nothing is learnt."""

    input_ids: list[int]
    labels: list[int]


class Segment(NamedTuple):
    """A stretch of a rendered conversation. `learnt` marks an assistant's content with its end-of-sequence token."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class ChatFormat:
    """How messages become text: `{bos}{system}`, then headed turns, those of the assistant closed by EOS.

    `system` stands where a conversation brings no system message. `bos_token` is empty where the tokenizer adds none.
    """

    system: str
    bos_token: str
    eos_token: str
    special_tokens: tuple[str, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, system: str) -> ChatFormat:
        """The format in `tokenizer`'s own special tokens. A tokenizer without EOS is a UserError."""
        if tokenizer.eos_token is None:
            raise UserError(
                "the tokenizer has no end-of-sequence token, so a turn could never end",
                "name a base model whose tokenizer_config.json has an eos_token",
            )
        special = {token for token in tokenizer.all_special_tokens if token}
        special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        first = list(tokenizer("a").input_ids)[:1]
        adds_bos = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
        return cls(
            system=system.strip(),
            bos_token=str(tokenizer.bos_token) if adds_bos else "",
            eos_token=str(tokenizer.eos_token),
            special_tokens=tuple(sorted(special)),
        )

    @property
    def template(self) -> str:
        """The Jinja text of `chat_template.jinja`. It emits every special token itself: encode without adding any."""
        return TEMPLATE % {
            "escape_special": "".join(
                f"{{% set ns.text = ns.text | replace({literal(token)}, {literal(escaped(token))}) %}}\n"
                for token in self.special_tokens
            ),
            "system": literal(self.system),
            "bos": literal(self.bos_token),
            "eos": literal(self.eos_token),
            "user_heading": literal(USER_HEADING),
            "assistant_heading": literal(ASSISTANT_HEADING),
        }

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text of `messages`, equal to `tokenizer.apply_chat_template(messages, tokenize=False, ...)`.

        Roles out of order are a UserError.
        """
        try:
            return compiled(self.template).render(messages=messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as fault:
            raise UserError(f"not a conversation: {fault}", "let user and assistant take turns, user first") from fault

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """The rendered conversation up to its last assistant turn, cut where learning starts and ends."""
        parts: list[Segment] = []
        end = 0
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                prompt = self.render(messages[:i], add_generation_prompt=True)
                whole = self.render(messages[: i + 1], add_generation_prompt=False)
                parts += [Segment(prompt[end:], False), Segment(whole[len(prompt) :], True)]
                end = len(whole)
        return parts


# Specials are broken up before headings: the space put into "##<s>" must not leave a heading behind it.
# The turn order is checked first, so that a fault is told even where nothing of it would be rendered.
TEMPLATE = """\
{%% macro plain(content) %%}
{%% if content is not string %%}{{ raise_exception('the content of a message must be a string') }}{%% endif %%}
{%% set ns = namespace(text=content | trim) %%}
%(escape_special)s\
{{ ('\\n' ~ ns.text) | replace('\\n### ', '\\n#### ') | trim }}
{%%- endmacro %%}
{%% if messages and messages[0]['role'] == 'system' %%}
{%% set system, turns = messages[0]['content'], messages[1:] %%}
{%% else %%}
{%% set system, turns = %(system)s, messages %%}
{%% endif %%}
{%% for message in turns %%}
{%% set expected = 'user' if loop.index0 is even else 'assistant' %%}
{%% if message['role'] != expected %%}
{{ raise_exception('turn ' ~ loop.index ~ ' must be of role ' ~ expected ~ ', not ' ~ message['role']) }}
{%% endif %%}
{%% endfor %%}
{%% if add_generation_prompt and turns | length is even %%}
{{ raise_exception('the last turn must be of role user where a reply is asked for') }}
{%% endif %%}
{{ %(bos)s ~ plain(system) }}
{%%- for message in turns %%}
{%% if message['role'] == 'user' %%}
{{ %(user_heading)s ~ plain(message['content']) }}
{%%- else %%}
{{ %(assistant_heading)s }}
{%%- generation %%}{{ plain(message['content']) ~ %(eos)s }}{%% endgeneration %%}
{%% endif %%}
{%% endfor %%}
{%% if add_generation_prompt %%}{{ %(assistant_heading)s }}{%% endif %%}
"""


def literal(text: str) -> str:
    """`text` as a Jinja string literal."""
    for char, code in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(char, code)
    return f"'{text}'"


def escaped(token: str) -> str:
    """The text of a special token, broken up so that no tokenizer reads it as that token: `< |im_end|>`."""
    return f"{token[0]} {token[1:]}" if len(token) > 1 else ""


class GenerationMark(Extension):
    """Reads `{% generation %}`, with which transformers finds the assistant's tokens; here it marks nothing."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> list[Node]:
        """The body between the marks, as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=16)
def compiled(template: str) -> Template:
    """`template` in an environment like that of `transformers.utils.chat_template_utils`."""

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationMark])
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)


def encode_row(
    tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, messages: Sequence[Message], max_length: int
) -> Row:
    """Token ids and labels of a conversation; learnt is each assistant's content with its EOS.

    A prompt and the reply to it are tokenized apart, because a model at inference reads the prompt's tokens and then
    generates: no token may span the seam. A row longer than `max_length` tokens is cut at its end and has no EOS then.
    """
    ids: list[int] = []
    labels: list[int] = []
    before = ""
    for segment in chat_format.segments(messages):
        part = encode_after(tokenizer, before, segment.text)
        ids += part
        labels += part if segment.learnt else [IGNORED] * len(part)
        before = chat_format.eos_token if segment.learnt else "\n"
    return Row(ids[:max_length], labels[:max_length])


def encode_after(tokenizer: Any, before: str, text: str) -> list[int]:
    """The ids of `text` as it stands after `before`.

    SentencePiece tokenizers put a space before the first word of all that they encode, wherever it will stand.
    """

    def encode(part: str) -> list[int]:
        return list(tokenizer(part, add_special_tokens=False).input_ids)

    head, whole = encode(before) if before else [], encode(before + text)
    return whole[len(head) :] if whole[: len(head)] == head else encode(text)
