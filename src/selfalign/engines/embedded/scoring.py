"""Scores of many continuations: rules shared by all, each question shared by its candidates, one pass for many.

A question and its candidates stand in one sequence in which every candidate sees the question and itself alone, so
that neither the rules nor the question is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from selfalign.engines.base import Score
from selfalign.engines.embedded.attention import Prefix, Step
from selfalign.engines.embedded.decoder import rectangle
from selfalign.engines.embedded.numerics import check_finite
from selfalign.engines.embedded.prefixes import WORTH_SHARING, Prefixes, common_length, forward

if TYPE_CHECKING:
    from torch import Tensor

PASS_TOKENS = 2048
"""Tokens of one pass, padding included: matrix products are at full speed long before."""

ROW_TOKENS = 512
"""Where the candidates of a question would take more, they are spread over several rows: its mask is square."""

LOGIT_ROWS = 128
"""Positions whose logits are turned to float32 at once: 25 MB of them in a vocabulary of 49,152."""

Pair = tuple[list[int], list[int]]


class Tree:
    """A question (the context's own tokens, at least one) and some of its candidates, as one sequence."""

    def __init__(self, context: Sequence[int], candidates: Sequence[tuple[int, list[int]]]) -> None:
        self.context = context
        self.candidates = candidates  # (index of the pair, tokens)
        self.length = len(context) + sum(len(ids) - 1 for _, ids in candidates)

    @property
    def ids(self) -> list[int]:
        """Tokens fed: the last of a candidate predicts nothing, and is left out."""
        return [*self.context, *(token for _, ids in self.candidates for token in ids[:-1])]

    @property
    def places(self) -> list[int]:
        """Distance of each token from the prefix's end, along its own branch."""
        context = len(self.context)
        return [*range(context), *(context + i for _, ids in self.candidates for i in range(len(ids) - 1))]

    @property
    def branches(self) -> list[int]:
        """Which candidate each token belongs to; -1 for the question."""
        own = ([branch] * (len(ids) - 1) for branch, (_, ids) in enumerate(self.candidates))
        return [-1] * len(self.context) + [branch for row in own for branch in row]

    def predictors(self) -> Iterator[tuple[int, list[int]]]:
        """(index of the pair, the positions in this sequence whose logits predict its tokens)."""
        start = len(self.context)
        for index, ids in self.candidates:
            yield index, [len(self.context) - 1, *range(start, start + len(ids) - 1)]
            start += len(ids) - 1


def score_pairs(model: Any, prefixes: Prefixes, pairs: Sequence[Pair]) -> list[Score]:
    """One score a pair of (context, continuation) ids, in order. An empty continuation has probability 1."""
    scores = [Score(0.0, 0, True)] * len(pairs)
    for members in families(pairs):
        shared = shared_length([pairs[i] for i in members])
        prefix = prefixes.get(pairs[members[0]][0][:shared])
        for batch in batches(trees(pairs, members, shared)):
            for index, score in score_batch(model, prefix, batch, pairs):
                scores[index] = score
    return scores


def families(pairs: Sequence[Pair]) -> list[list[int]]:
    """Pairs whose contexts begin alike go together; their indices. Those without a continuation are left out."""
    found: dict[tuple[int, ...], list[int]] = {}
    for index, (context, continuation) in enumerate(pairs):
        if continuation:
            found.setdefault(tuple(context[:WORTH_SHARING]), []).append(index)
    return list(found.values())


def shared_length(pairs: Sequence[Pair]) -> int:
    """Tokens that all contexts begin with, at least one being left to each; 0 where it is not worth a prefix."""
    common = common_length([context[:-1] for context, _ in pairs])
    return common if common >= WORTH_SHARING and len(pairs) > 1 else 0


def trees(pairs: Sequence[Pair], members: Sequence[int], shared: int) -> list[Tree]:
    """The candidates of each context together, no tree much longer than `ROW_TOKENS`; the longest first."""
    questions: dict[tuple[int, ...], list[list[tuple[int, list[int]]]]] = {}
    for index in members:
        context, continuation = pairs[index]
        groups = questions.setdefault(tuple(context[shared:]), [[]])
        if groups[-1] and Tree(context[shared:], groups[-1]).length + len(continuation) > ROW_TOKENS:
            groups.append([])
        groups[-1].append((index, continuation))
    made = [Tree(context, group) for context, groups in questions.items() for group in groups]
    return sorted(made, key=lambda tree: -tree.length)


def batches(rows: Sequence[Tree]) -> Iterator[list[Tree]]:
    """As many as `PASS_TOKENS` hold; all are as wide as the first, the longest."""
    start = 0
    while start < len(rows):
        count = max(1, PASS_TOKENS // rows[start].length)
        yield list(rows[start : start + count])
        start += count


def score_batch(model: Any, prefix: Prefix, batch: Sequence[Tree], pairs: Sequence[Pair]) -> list[tuple[int, Score]]:
    """(index of the pair, its score) for every candidate of the batch, from one forward pass."""
    import torch

    device = model.device
    ids, places = (
        torch.tensor([value for tree in batch for value in getattr(tree, name)], device=device)
        for name in ("ids", "places")
    )
    padded = rectangle([tree.length for tree in batch], device, tree_mask(batch, device))
    spans, start, kept, targets = [], 0, [], []
    for tree in batch:
        for index, positions in tree.predictors():
            spans.append((index, len(positions)))
            kept += [start + position for position in positions]
            targets += pairs[index][1]
        start += tree.length
    with torch.inference_mode():
        run = forward(model, ids, Step(prefix, places, padded=padded), torch.tensor(kept, device=device))
        logits = check_finite(model, run, lambda: "a scored text")
        target = torch.tensor(targets, device=device)
        logs, greedy = log_probabilities(logits, target)
    return gather(spans, logs, greedy)


def tree_mask(batch: Sequence[Tree], device: Any) -> Tensor:
    """[R, T, T]: a token sees the question and its own branch, up to itself."""
    import torch

    width = max(tree.length for tree in batch)
    branches = torch.full((len(batch), width), -2, device=device)
    for row, tree in enumerate(batch):
        branches[row, : tree.length] = torch.tensor(tree.branches, device=device)
    same = branches[:, :, None] == branches[:, None, :]
    return (same | (branches[:, None, :] == -1)) & torch.ones(width, width, dtype=torch.bool, device=device).tril()


def log_probabilities(logits: Tensor, targets: Tensor) -> tuple[list[float], list[bool]]:
    """Of each target its natural log-probability, and whether it is the likeliest token; logits [n, V]."""
    import torch

    logs, greedy = [], []
    for rows, target in zip(logits.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True):
        values = rows.float()
        chosen = values.gather(1, target[:, None])[:, 0]
        logs += (chosen - torch.logsumexp(values, -1)).tolist()
        greedy += (values.argmax(-1) == target).tolist()
    return logs, greedy


def gather(spans: Sequence[tuple[int, int]], logs: list[float], greedy: list[bool]) -> list[tuple[int, Score]]:
    """Sums over each candidate's tokens; `spans` has (index of the pair, number of tokens)."""
    scores, start = [], 0
    for index, count in spans:
        end = start + count
        scores.append((index, Score(sum(logs[start:end]), count, all(greedy[start:end]))))
        start = end
    return scores
