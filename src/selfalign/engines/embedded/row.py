"""One request while it is being written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfalign.engines.base import Completion, FinishReason, Request
from selfalign.engines.ngrams import NgramPenalty
from selfalign.engines.tokenization import Tokenization
from selfalign.records import Tokens

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 4
"""Tokens looked back at beyond a stop string's bytes: the last character may be four tokens long."""


class Row:
    """`prompt` is the request's own part after a prefix of `prefix_length` tokens; `limit` its most new tokens."""

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

    def take(self, token: int, is_end: bool) -> Completion | None:
        """Append a token; the completion where it was the last one."""
        if is_end:
            return self._complete("eos", 1)
        self.ids.append(token)
        if self.penalty:
            self.penalty.add(token)
        if self._has_stop():
            return self._complete("stop")
        return self._complete("length") if len(self.ids) == self.limit else None

    def _has_stop(self) -> bool:
        stops = self.request.sampling.stop
        if not stops or not self.may_end:
            return False
        text = self.tokenization.decode(self.ids[-self.window :])
        return any(stop in text for stop in stops)

    def _complete(self, finish: FinishReason, ends: int = 0) -> Completion:
        text = self.text
        if finish == "stop":
            text = text[: min(at for stop in self.request.sampling.stop if (at := text.find(stop)) >= 0)]
        tokens = Tokens(self.prefix_length + len(self.prompt), len(self.ids) + ends)
        return Completion(self.request.key, text, finish, tokens)
