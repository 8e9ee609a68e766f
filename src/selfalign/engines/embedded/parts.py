"""Attention over some of the keys, with the log-sum-exp that weighs it when it is merged with the rest.

H query heads share Hk key-value heads; D is the size of a head. Queries are scaled already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from selfalign.engines.embedded.kernel import Kernel

if TYPE_CHECKING:
    from torch import Tensor

MASKED = -1e9
"""Added to a score that must not count. Finite in bfloat16 too: a query that sees -inf alone gives NaN."""

NEXT_TO_NOTHING = 1e-30
"""A weight below this may have lost digits: bfloat16 and float32 are whole down to 1e-38."""

AT_ONCE = 512
"""Tokens whose scores over the shared keys are made at once: 17 MB of them over 1,845 keys in 3 heads."""

SHORT = 256
"""Up to so many tokens two products beat the CPU's flash kernel (4.7 against 8.4 ms for 64 rows of 48 in 9 heads);
beyond, the kernel saves the [n, n] scores."""


class Part(NamedTuple):
    """Attention over some of the keys: output [1, H, n, D], and the log-sum-exp [1, H, n] that weighs it."""

    output: Tensor
    lse: Tensor


def decoded_part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Part:
    """One query a slot: query [1, H, B, D], key [B, Hk, D, S], value [B, Hk, S, D], mask [B, 1, 1, S]."""
    _, heads, batch, dim = query.shape
    grouped = query[0].view(key.shape[1], -1, batch, dim).permute(2, 0, 1, 3)
    output, lse = products(grouped, key, value, mask)
    return Part(output.permute(1, 2, 0, 3).reshape(1, heads, batch, dim), lse.permute(1, 2, 0).reshape(1, heads, batch))


def shared_part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kernel: Kernel | None) -> Part:
    """Over the shared keys [1, Hk, D, P]: the queries of all sequences are one long sequence of queries."""
    import torch

    _, heads, count, dim = query.shape
    groups = heads // key.shape[1]
    parts = []
    for start in range(0, count, AT_ONCE):
        pooled = query[:, :, start : start + AT_ONCE]
        some = None if mask is None else mask[start : start + AT_ONCE].repeat(groups, 1)
        parts.append(products(pooled.reshape(1, key.shape[1], -1, dim), key, value, some, kernel))
    shapes = [(1, heads, -1, dim), (1, heads, -1)]
    outputs, lses = ([part[i].reshape(shapes[i]) for part in parts] for i in (0, 1))
    return Part(torch.cat(outputs, 2), torch.cat(lses, 2)) if len(parts) > 1 else Part(outputs[0], lses[0])


def products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kernel: Kernel | None = None) -> Part:
    """Attention of [R, H, n, D] over keys [R, H, D, S] and values [R, H, S, D] by two products and a softmax.

    Few queries over many keys: faster than the CPU's flash kernel (1.3 against 2.1 ms for 192 queries and 1,845 keys in
    3 heads).
    """
    import torch

    scores = torch.matmul(query, key)
    if mask is not None:
        scores += mask
    if kernel is not None:
        lse = kernel.soften(scores)
        return Part(torch.matmul(scores, value), lse)
    weights = torch.softmax(scores, -1)
    return Part(torch.matmul(weights, value), log_sum_exp(scores, weights))


def log_sum_exp(scores: Tensor, weights: Tensor) -> Tensor:
    """Of scores [..., S], from their softmax: any score less the logarithm of its weight.

    The first key serves, which much attention goes to anyway, unless it weighs next to nothing: a pass over all keys
    for the likeliest takes a tenth of the part's time.
    """
    weight = weights[..., 0].float()
    if bool((weight < NEXT_TO_NOTHING).any()):
        return scores.amax(-1).float() - weights.amax(-1).float().log()
    return scores[..., 0].float() - weight.log()


def among_themselves(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kernel: Kernel | None = None
) -> Part:
    """The same of [R, H, n, D] with itself; no mask means causal. Long ones go through the CPU's flash kernel."""
    import torch

    size = query.shape[2]
    if query.device.type == "cpu" and size > SHORT:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return Part(*flash(query, key, value, 0.0, mask is None, attn_mask=mask, scale=1.0))
    if mask is None:
        mask = torch.full((size, size), MASKED, dtype=query.dtype, device=query.device).triu(1)
    return products(query, key.transpose(2, 3), value, mask, kernel)


def merge(first: Part, second: Part | None) -> Tensor:
    """The attention over both key sets together, [1, H, n, D]; without a second, the first's."""
    import torch

    if second is None:
        return first.output
    weight = torch.sigmoid(first.lse - second.lse)[..., None].to(first.output.dtype)
    return torch.lerp(second.output, first.output, weight)
