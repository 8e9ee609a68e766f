"""The gate of a feed-forward layer, silu(gate) * up, in one pass over the numbers where there is a kernel.

As with norms, which modules are such layers is tried, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign.engines.embedded.kernel import Kernel, kernel_of
from selfalign.engines.embedded.norms import TOLERANCE, TRIAL_ROWS

PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


def fuse_gates(model: Any) -> None:
    """Let every layer that gives the same so use the kernel's gate; without a kernel do nothing.

    The layer stays what it is, since adapters are put on its linear parts by name.
    """
    kernel = kernel_of(model)
    if kernel is None:
        return
    for layer in model.modules():
        if all(hasattr(layer, part) for part in PARTS) and is_fusible(layer, model, kernel):
            layer.forward = gated(layer, kernel)


def is_fusible(layer: Any, model: Any, kernel: Kernel) -> bool:
    """Whether the kernel gives what `layer` gives, on a few rows of random numbers."""
    import torch

    width = model.config.get_text_config().hidden_size
    trial = torch.randn(1, TRIAL_ROWS, width, generator=torch.Generator().manual_seed(0)).to(model.dtype)
    with torch.inference_mode():
        expected, found = layer(trial).float(), gated(layer, kernel)(trial).float()
    furthest = (found - expected).abs().max()
    return bool(furthest <= TOLERANCE[str(model.dtype)] * expected.abs().max())


def gated(layer: Any, kernel: Kernel) -> Callable[[Any], Any]:
    """The layer's forward pass."""

    def forward(hidden: Any) -> Any:
        return layer.down_proj(kernel.gate(layer.gate_proj(hidden), layer.up_proj(hidden)))

    return forward
