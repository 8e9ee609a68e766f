"""Frequency penalties for n-grams: what keeps a long completion from going round in circles (paper app. D.2)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence


class NgramPenalty:
    """Frequency penalties of one sequence: how often each token would complete an n-gram (n = 1 to 4) seen before.

    Only the generated part counts, each occurrence once more. `applies` says which tokens may be penalised at all.
    """

    def __init__(self, penalties: Sequence[float], applies: Callable[[int], bool] = lambda _: True) -> None:
        self.penalties = [(n, penalty) for n, penalty in enumerate(penalties, 1) if penalty]
        self.applies = applies
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
                    if self.applies(token):
                        amounts[token] += penalty * count
        return amounts
