"""Choosing the next token of each sequence of a batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = 512
"""How many of the likeliest tokens are sorted; a row whose nucleus is wider sorts the whole vocabulary."""


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Sample [B] token ids from float32 logits [B, V].

    `temperature`, `top_p` and `uniform` (one draw from [0, 1) per row) are [B]; temperature 0 takes the likeliest.
    The draw picks from the cumulative distribution in order of probability, so a row's choice depends on its own
    logits and its own draw alone.
    """
    import torch

    greedy = temperature <= 0
    scaled = logits / torch.where(greedy, torch.ones_like(temperature), temperature)[:, None]
    total = torch.logsumexp(scaled, -1, keepdim=True)
    values, ids = torch.topk(scaled, min(CANDIDATES, logits.shape[-1]), dim=-1)
    chosen = pick(torch.exp(values - total), ids, top_p, uniform)
    wide = ~greedy & (torch.exp(values - total).sum(-1) < top_p)
    if bool(wide.any()):
        values, ids_wide = torch.sort(scaled[wide], dim=-1, descending=True)
        chosen[wide] = pick(torch.exp(values - total[wide]), ids_wide, top_p[wide], uniform[wide])
    return torch.where(greedy, ids[:, 0], chosen)


def pick(probabilities: Tensor, ids: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling in the nucleus: the smallest set of the likeliest tokens that holds `top_p` of the mass."""
    import torch

    before = probabilities.cumsum(-1) - probabilities
    nucleus = torch.where(before < top_p[:, None], probabilities, torch.zeros_like(probabilities))
    cumulative = nucleus.cumsum(-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    last = (nucleus > 0).sum(-1, keepdim=True) - 1
    index = torch.minimum((cumulative <= threshold).sum(-1, keepdim=True), last)
    return ids.gather(1, index)[:, 0]


class NgramPenalty:
    """Frequency penalties of one sequence: how often each token would complete an n-gram (n = 1 to 4) seen before."""

    def __init__(self, penalties: Sequence[float]) -> None:
        self.penalties = [(n, penalty) for n, penalty in enumerate(penalties, 1) if penalty]
        self.ids: list[int] = []
        self.followers: dict[tuple[int, ...], Counter[int]] = {}

    def add(self, token: int) -> None:
        """Take note of a generated token."""
        for n, _ in self.penalties:
            if len(self.ids) >= n - 1:
                context = tuple(self.ids[len(self.ids) - n + 1 :])
                self.followers.setdefault((n, *context), Counter())[token] += 1
        self.ids.append(token)

    def current(self) -> Mapping[int, float]:
        """Token id -> what is taken off its logit now."""
        amounts: defaultdict[int, float] = defaultdict(float)
        for n, penalty in self.penalties:
            if len(self.ids) >= n - 1:
                context = tuple(self.ids[len(self.ids) - n + 1 :])
                for token, count in self.followers.get((n, *context), Counter()).items():
                    amounts[token] += penalty * count
        return amounts
