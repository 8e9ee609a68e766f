"""RMS norms in one pass over the numbers where there is a kernel; transformers' own takes seven operators.

Which modules are such norms is tried, not guessed: families weigh and round in ways of their own.
"""

from __future__ import annotations

from typing import Any

from selfalign.engines.embedded.kernel import Kernel, kernel_of

TRIAL_ROWS = 4
TOLERANCE = {"torch.float32": 1e-6, "torch.bfloat16": 1 / 128}
"""Of a norm's largest output: sums are added in another order, which may turn the last bit."""


def replace_norms(model: Any) -> None:
    """Put the kernel's norm in place of every module that gives the same; without a kernel do nothing."""
    kernel = kernel_of(model)
    if kernel is None:
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm") and is_replaceable(child, model.dtype, kernel):
                setattr(parent, name, fused_norm(child, kernel))


def is_replaceable(norm: Any, dtype: Any, kernel: Kernel) -> bool:
    """Whether the kernel gives what `norm` gives, on a few rows of random numbers."""
    import torch

    weight, epsilon = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if weight is None or epsilon is None or weight.dtype != dtype or weight.dim() != 1:
        return False
    trial = torch.randn(TRIAL_ROWS, len(weight), generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        expected, found = norm(trial).float(), kernel.normalise(trial, weight, epsilon).float()
    furthest = (found - expected).abs().max()
    return bool(furthest <= TOLERANCE[str(dtype)] * expected.abs().max())


def fused_norm(norm: Any, kernel: Kernel) -> Any:
    """A module that gives what `norm` gives."""
    import torch

    class FusedNorm(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy
        def __init__(self) -> None:
            super().__init__()
            self.weight = norm.weight.detach()
            self.epsilon = norm.variance_epsilon

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return kernel.normalise(hidden.contiguous(), self.weight, self.epsilon)

    return FusedNorm()
