"""Weights, shared keys and shared values laid as the kernel's products read them: in lines of pairs, once and for all.

A product of bfloat16 pairs takes two numbers at a time along what is summed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from selfalign.engines.embedded.kernel import BLOCK, Kernel

if TYPE_CHECKING:
    from torch import Tensor


class SharedPairs(NamedTuple):
    """Keys [Hk, P / BLOCK, D / 2, BLOCK, 2] and values [Hk, P / 2, D, 2], zeros behind the `length` tokens that are."""

    length: int
    keys: Tensor
    values: Tensor


def shared_pairs(layers: Sequence[tuple[Tensor, Tensor]], kernel: Kernel | None) -> tuple[SharedPairs, ...]:
    """Every layer's keys [1, Hk, D, P] and values [1, Hk, P, D]; nothing where no kernel reads them so."""
    return tuple(of_layer(keys, values) for keys, values in layers) if kernel and kernel.shares else ()


def of_layer(keys: Tensor, values: Tensor) -> SharedPairs:
    """Of one layer."""
    import torch

    _, heads, dim, length = keys.shape
    behind = -length % BLOCK
    keys = torch.nn.functional.pad(keys[0], (0, behind)).view(heads, dim // 2, 2, -1, BLOCK)
    values = torch.nn.functional.pad(values[0], (0, 0, 0, behind)).view(heads, -1, 2, dim)
    return SharedPairs(length, keys.permute(0, 3, 1, 4, 2).contiguous(), values.transpose(2, 3).contiguous())


def weight_pairs(weight: Tensor) -> Tensor | None:
    """A linear layer's weight [out, in] as [out / BLOCK, in / 2, BLOCK, 2]; None where these do not divide it."""
    out, width = weight.shape
    if out % BLOCK or width % 2:
        return None
    return weight.view(out // BLOCK, BLOCK, width // 2, 2).transpose(1, 2).contiguous()
