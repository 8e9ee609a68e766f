"""One request while it is being written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from selfalign.engines.base import Completion, FinishReason, Request
from selfalign.engines.ngrams import NgramPenalty
from selfalign.engines.tokenization import Tokenization
from selfalign.records import Tokens

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 4
"""Tokens looked back at beyond a stop string's bytes: the last character may be four tokens long."""


class Chance(NamedTuple):
    """A token's natural log-probability, and the likeliest tokens of its place with theirs."""

    token: int
    log_probability: float
    likeliest: tuple[tuple[int, float], ...]


class Row:
    """`prompt` is the request's own part after a prefix of `prefix_length` tokens; `limit` its most new tokens.

    `top` is how many of the likeliest tokens are noted with each token's log-probability; None notes nothing.
    """

    top: int | None = None

    def __init__(
        self, request: Request, tokenization: Tokenization, prompt: list[int], prefix_length: int, limit: int
    ) -> None:
        import torch

        sampling = request.sampling
        self.request = request
        self.tokenization = tokenization
        self.prompt = prompt
        self.prefix_length = prefix_length
        self.limit = limit
        self.ids: list[int] = []
        self.chances: list[Chance] = []
        self.bias = tokenization.bias_ids(sampling.logit_bias)
        applies = tokenization.begins_word if sampling.penalise_word_starts_only else lambda _: True
        self.penalty = NgramPenalty(sampling.ngram_penalties, applies) if any(sampling.ngram_penalties) else None
        self.uniform = torch.rand(limit, generator=torch.Generator().manual_seed(request.seed)).tolist()
        self.window = max((len(stop.encode()) for stop in sampling.stop), default=0) + MARGIN

    @property
    def length(self) -> int:
        """Tokens of its own so far, those of the prompt included."""
        return len(self.prompt) + len(self.ids)

    @property
    def may_end(self) -> bool:
        """Whether it has its `min_tokens`."""
        return len(self.ids) >= self.request.sampling.min_tokens

    @property
    def needs_logits(self) -> bool:
        """Whether it looks at its logits, or changes them, before a token is chosen."""
        return bool(self.bias or self.penalty or not self.may_end or self.top is not None)

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.tokenization.decode(self.ids)

    def adjust(self, logits: Tensor, ends: Tensor) -> None:
        """Add bias, take off penalties and forbid an early end, in place; logits [V]."""
        for token, amount in self.bias.items():
            logits[token] += amount
        if self.penalty and (amounts := self.penalty.current()):
            logits[list(amounts)] -= logits.new_tensor(list(amounts.values()))
        if not self.may_end:
            logits[ends] = -float("inf")

    def note(self, logs: Tensor, token: int) -> None:
        """Keep how likely the model found the token that was chosen, before bias and temperature; logs [V]."""
        values, ids = logs.topk(min(self.top or 0, len(logs)))
        likeliest = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        self.chances.append(Chance(token, float(logs[token]), likeliest))

    def take(self, token: int, is_end: bool) -> Completion | None:
        """Append a token; the completion where it was the last one."""
        if is_end:
            return self._complete("eos", 1)
        self.ids.append(token)
        if self.penalty:
            self.penalty.add(token)
        stop = self._stop_place()
        if stop is not None:
            return self._complete("stop", place=stop)
        return self._complete("length") if len(self.ids) == self.limit else None

    def _stop_place(self) -> int | None:
        """Where in the text its first stop string begins. One that was complete within `min_tokens` does not count."""
        stops, least = self.request.sampling.stop, self.request.sampling.min_tokens
        recent = self.tokenization.decode(self.ids[-self.window :]) if stops and self.may_end else ""
        if not any(stop in recent for stop in stops):
            return None
        text, held = self.text, len(self.tokenization.decode(self.ids[:least]))
        places = (text.find(stop, max(0, held - len(stop) + 1)) for stop in stops)
        return min((place for place in places if place >= 0), default=None)

    def _complete(self, finish: FinishReason, ends: int = 0, place: int | None = None) -> Completion:
        text = self.text[:place]
        tokens = Tokens(self.prefix_length + len(self.prompt), len(self.ids) + ends)
        return Completion(self.request.key, text, finish, tokens)
