"""The engine protocol: what generates and scores text, whatever runs it (DESIGN.md section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from selfalign.constitution.chat_format import ChatFormat
from selfalign.errors import UserError
from selfalign.records import Tokens

FinishReason = Literal["stop", "eos", "length", "refused"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; every setting is explicit, an engine's own defaults never apply.

    `temperature` 0 is greedy. `logit_bias` maps a string to what is added to the logit of its first token.
    `ngram_penalties` are frequency penalties for 1- to 4-grams: for each time that a token would complete an n-gram
    that stands in the generated part already, the penalty is taken off its logit; with `penalise_word_starts_only` only
    where the token begins a word (the original's rule: the rest of a word that was begun is not to be broken).
    Before `min_tokens` tokens no end-of-sequence token is sampled and no stop string is looked for.

    Raises UserError for a value that no engine could sample with.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    ngram_penalties: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    penalise_word_starts_only: bool = False
    min_tokens: int = 0

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.top_p, *self.logit_bias.values(), *self.ngram_penalties)
        may_begin = 0 <= self.min_tokens <= self.max_tokens
        faults = {
            "a stop string is empty: it would end every text at once": "" in self.stop,
            "a logit_bias string is empty": "" in self.logit_bias,
            f"a sampling number is not finite: {numbers}": not all(map(math.isfinite, numbers)),
            f"temperature is {self.temperature}, below 0": self.temperature < 0,
            f"top_p is {self.top_p}, not in (0, 1]": not 0 < self.top_p <= 1,
            f"max_tokens is {self.max_tokens}, below 1": self.max_tokens < 1,
            f"min_tokens is {self.min_tokens}, not in [0, {self.max_tokens}]": not may_begin,
        }
        for fault, is_there in faults.items():
            if is_there:
                raise UserError(fault, "mend the sampling settings")


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

    `finish_reason` is `stop` (a stop string was met; it is not part of `text`), `eos`, `length`, or `refused`: the
    engine could not take this request, `refusal` says why, and the others go on.
    """

    key: str
    text: str
    finish_reason: FinishReason
    tokens: Tokens
    refusal: str = ""

    def __post_init__(self) -> None:
        """Half a surrogate pair, which a server's JSON can say and no file can hold, becomes U+FFFD."""
        if not self.text.isascii():
            whole = self.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            object.__setattr__(self, "text", whole)

    @classmethod
    def refused(cls, key: str, reason: str) -> Completion:
        """The completion of a request that cannot be taken."""
        return cls(key, "", "refused", Tokens(), reason)


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
        """Yield completions as they finish, in any order; the same requests give the same completions again.

        One for every request: one that cannot be taken is completed as `refused`. Closing the iterator cancels the
        rest. Raises EngineFailed where no request could be taken (a server is gone, logits are NaN).
        """
        ...

    def score(self, pairs: Sequence[tuple[str, str]], chat_format: bool = False) -> list[Score]:
        """Score each (context, continuation), in order."""
        ...

    def stream(self, request: Request) -> Iterator[str]:
        """Yield the pieces of one completion as they become final text. Raises UserError where it is refused."""
        ...

    def close(self) -> None:
        """Free all memory, the accelerator's too."""
        ...


def refusal(prompt: Sequence[int], used: int, context_length: int) -> str:
    """Why a request of the token ids `prompt`, `used` tokens with its prefix, is refused; empty if it is not."""
    if not prompt:
        return EMPTY_PROMPT
    return too_long(used, context_length) if used >= context_length else ""


def too_long(prompt_tokens: int, context_length: int) -> str:
    """Why a request is refused whose prompt fills the context; both in tokens."""
    return f"the prompt has {prompt_tokens} tokens, the context holds {context_length}"


EMPTY_PROMPT = "the prompt is empty"
"""Why a request is refused that asks to go on from nothing, or from the shared prefix alone."""
