"""Choosing the next token of each sequence of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfalign.engines.embedded.kernel import Kernel

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = 64
"""How many of the likeliest tokens are sorted; a row whose nucleus is wider looks further."""

GROUP = 64
"""The likeliest tokens are looked for in groups: the best 64 stand in the 64 groups with the highest maxima."""


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, kernel: Kernel | None = None) -> Tensor:
    """Sample [B] token ids from float32 logits [B, V].

    `temperature`, `top_p` and `uniform` (one draw from [0, 1) per row) are [B]; temperature 0 takes the likeliest.
    The draw picks from the cumulative distribution in order of probability, so a row's choice depends on its own
    logits and its own draw alone. The kernel sorts next to nothing: it
    takes 1 ms where the operators here take 25 (16 rows of 49,152, temperature 0.7, top-p 0.95).
    """
    import torch

    if kernel:
        return kernel.choose(logits, temperature, top_p, uniform)
    greedy = temperature <= 0
    if bool(greedy.all()):
        return logits.argmax(-1)
    divisor = torch.where(greedy, torch.ones_like(temperature), temperature)
    total = (logits / divisor[:, None]).logsumexp(-1)
    likeliest, ids = likeliest_tokens(logits, CANDIDATES)
    values = (likeliest / divisor[:, None] - total[:, None]).exp()
    chosen = pick(values, ids, top_p, uniform)
    wide = ~greedy & (values.sum(-1) < top_p)
    if bool(wide.any()):
        whole = (logits[wide] / divisor[wide, None] - total[wide, None]).exp()
        values, order = torch.topk(whole, most_in_nucleus(whole, top_p[wide]), dim=-1)
        chosen[wide] = pick(values, order, top_p[wide], uniform[wide])
    return torch.where(greedy, ids[:, 0], chosen)


def most_in_nucleus(probabilities: Tensor, top_p: Tensor) -> int:
    """Tokens that the widest nucleus of [B, V] may have: those below (1 - top_p) / V are together less than the rest.

    Sorting these few thousand instead of all takes a fifth of the time.
    """
    least = (1 - top_p) / probabilities.shape[-1]
    return int((probabilities >= least[:, None]).sum(-1).max())


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
