"""Linear layers whose weights lie as the CPU's matrix product reads them, packed once instead of at every call.

By the kernel where the processor multiplies bfloat16 pairs, else by PyTorch's oneDNN. Measured on 2 Zen 4 cores, all
products of one step of the 135M model: 1 row 9 ms by the kernel and 16 by oneDNN, 16 rows 15 and 21, 64 rows 48 and 58
(99 unpacked), 256 rows 175 and 174. A row of the kernel's has the same bits whatever rows are beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign.engines.embedded.kernel import Kernel, kernel_of
from selfalign.engines.embedded.pairs import weight_pairs

ROWS = 64
"""Rows that oneDNN's packing is chosen for; others run on it too."""


def pack_linears(model: Any) -> None:
    """Replace every linear layer of a bfloat16 model on a CPU, in place; elsewhere do nothing.

    The small matrices of an adapter stay: PEFT, which keeps them in a ModuleDict, reads their weights.
    """
    import torch

    if model.device.type != "cpu" or model.dtype != torch.bfloat16:
        return
    kernel = kernel_of(model)
    for parent in [module for module in model.modules() if not isinstance(module, torch.nn.ModuleDict)]:
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(parent, name, packed_linear(child, kernel))


def packed_linear(linear: Any, kernel: Kernel | None = None) -> Any:
    """A module that gives what `linear` gives, without its weight; `linear` itself where nothing packs it."""
    weight = linear.weight.detach()
    pairs = weight_pairs(weight) if kernel and kernel.has_pairs else None
    if kernel and pairs is not None:
        return with_product(kernel.linear, pairs, linear.bias)
    if can_pack():
        import torch

        return with_product(by_onednn, torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), linear.bias)
    return linear


def by_onednn(hidden: Any, weight: Any, bias: Any) -> Any:
    """A linear layer on a weight that oneDNN has packed."""
    import torch

    return torch.ops.mkldnn._linear_pointwise(hidden, weight, bias, "none", [], "")


def can_pack() -> bool:
    """Whether this build of PyTorch has the operators that its own compiler packs weights with."""
    import torch

    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def with_product(product: Callable[..., Any], packed: Any, bias: Any) -> Any:
    """A module that calls `product` with what it is given, the packed weight and the bias."""
    import torch

    class PackedLinear(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy
        def __init__(self) -> None:
            super().__init__()
            self.weight = packed
            self.bias = None if bias is None else bias.detach()

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return product(hidden, self.weight, self.bias)

    return PackedLinear()
