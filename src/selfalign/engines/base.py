"""The engine protocol: what generates and scores text, whatever runs it (DESIGN.md section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from selfalign.constitution.chat_format import ChatFormat
from selfalign.records import Tokens

FinishReason = Literal["stop", "eos", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; every setting is explicit, an engine's own defaults never apply.

    `temperature` 0 is greedy. `logit_bias` maps a string to what is added to the logit of its first token.
    `ngram_penalties` are frequency penalties for 1- to 4-grams: for each time that a token would complete an n-gram
    that stands in the generated part already, the penalty is taken off its logit.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    ngram_penalties: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Request:
    """A raw text completion: `prefix` + `prompt` is what the model reads.

    `prefix` is text common to many requests; an engine computes it once. Special tokens written in the text are read
    as plain text, unless `chat_format` says that the text was rendered by the chat template, which escapes what
    stands between its own.
    """

    key: str
    prompt: str
    prefix: str = ""
    sampling: Sampling = Sampling()
    seed: int = 0
    chat_format: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote for the request `key`.

    `finish_reason` is `stop` (a stop string was met; it is not part of `text`), `eos` or `length`.
    """

    key: str
    text: str
    finish_reason: FinishReason
    tokens: Tokens


class Score(NamedTuple):
    """The summed natural log-probability of a continuation, its token count, and whether greedy decoding gives it."""

    log_probability: float
    token_count: int
    is_greedy: bool


class Engine(Protocol):
    """What generates and scores text."""

    def describe(self) -> dict[str, Any]:
        """What goes into a record's `engine`."""
        ...

    def chat_format(self, system: str) -> ChatFormat:
        """The chat format in this model's special tokens, `system` standing where a conversation brings none."""
        ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as they finish, in any order; the same requests give the same completions again."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]], chat_format: bool = False) -> list[Score]:
        """Score each (context, continuation), in order."""
        ...

    def stream(self, request: Request) -> Iterator[str]:
        """Yield the pieces of one completion as they become final text."""
        ...

    def close(self) -> None:
        """Free all memory, the accelerator's too."""
        ...
