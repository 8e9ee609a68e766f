"""Choosing the next token of each sequence of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfalign.engines.embedded.kernel import Kernel

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = 64
"""How many of the likeliest tokens are sorted; a row whose nucleus is wider sorts the whole vocabulary."""

GROUP = 64
"""The likeliest tokens are looked for in groups: the best 64 stand in the 64 groups with the highest maxima."""


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, kernel: Kernel | None = None) -> Tensor:
    """Sample [B] token ids from float32 logits [B, V].

    `temperature`, `top_p` and `uniform` (one draw from [0, 1) per row) are [B]; temperature 0 takes the likeliest.
    The draw picks from the cumulative distribution in order of probability, so a row's choice depends on its own
    logits and its own draw alone. The kernel spares a pass over the vocabulary that keeps every probability.
    """
    import torch

    greedy = temperature <= 0
    if bool(greedy.all()):
        return logits.argmax(-1)
    divisor = torch.where(greedy, torch.ones_like(temperature), temperature)
    total = kernel.log_sum_exp(logits, divisor) if kernel else (logits / divisor[:, None]).logsumexp(-1)
    likeliest, ids = likeliest_tokens(logits, CANDIDATES)
    values = (likeliest / divisor[:, None] - total[:, None]).exp()
    chosen = pick(values, ids, top_p, uniform)
    wide = ~greedy & (values.sum(-1) < top_p)
    if bool(wide.any()):
        whole = torch.softmax(logits[wide] / divisor[wide, None], -1)
        values, order = torch.sort(whole, dim=-1, descending=True)
        chosen[wide] = pick(values, order, top_p[wide], uniform[wide])
    return torch.where(greedy, ids[:, 0], chosen)


def likeliest_tokens(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest values of each row [B, V] and their places, in falling order: a third of topk's time."""
    import torch

    batch, vocabulary = logits.shape
    groups = vocabulary // GROUP
    if groups < 2 * count:
        top = torch.topk(logits, min(count, vocabulary), dim=-1)
        return top.values, top.indices
    whole = logits[:, : groups * GROUP].view(batch, GROUP, groups)
    best = torch.topk(whole.amax(1), count, dim=-1, sorted=False).indices
    places = (best[:, None] + torch.arange(GROUP, device=best.device)[:, None] * groups).view(batch, -1)
    rest = torch.arange(groups * GROUP, vocabulary, device=best.device).expand(batch, -1)
    places = torch.cat([places, rest], 1)
    top = torch.topk(logits.gather(1, places), count, dim=-1)
    return top.values, places.gather(1, top.indices)


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
