"""Rotary position embedding of queries and keys in one pass where there is a kernel; transformers takes ten operators.

An attention layer keeps its own forward pass, whatever else that does; only the name of the function that rotates means
the kernel's in it. As with norms, whether the two rotate alike is tried, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from selfalign.engines.embedded.cache import key_shape
from selfalign.engines.embedded.kernel import Kernel, kernel_of
from selfalign.engines.embedded.norms import TOLERANCE, TRIAL_ROWS

NAME = "apply_rotary_pos_emb"
"""What every family of transformers calls it, each in a module of its own."""

Rotation = Callable[..., tuple[Any, Any]]


def replace_rotations(model: Any) -> None:
    """Let every layer whose rotation the kernel does alike use it; without a kernel do nothing."""
    kernel = kernel_of(model)
    if kernel is None:
        return
    for layer in model.modules():
        forward = type(layer).forward
        rotation = rotation_of(forward)
        if rotation is not None and is_replaceable(rotation, model, kernel):
            layer.forward = MethodType(under_the_name(forward, rotated_by(kernel, rotation)), layer)


def rotation_of(forward: Any) -> Rotation | None:
    """The function that a forward pass rotates with; None where it is wrapped, or has none of that name."""
    if not isinstance(forward, FunctionType) or NAME not in forward.__code__.co_names:
        return None
    found: Rotation | None = forward.__globals__.get(NAME)
    return found


def under_the_name(forward: FunctionType, rotation: Rotation) -> FunctionType:
    """The same function, in whose body `NAME` means `rotation`. Nobody else's does."""
    names = {**forward.__globals__, NAME: rotation}
    twin = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    twin.__kwdefaults__ = forward.__kwdefaults__
    return twin


def rotated_by(kernel: Kernel, rotation: Rotation) -> Rotation:
    """The kernel's rotation for what a forward pass of this engine hands it, `rotation` for anything else."""

    def rotate(query: Any, key: Any, cos: Any, sin: Any, *rest: Any, **options: Any) -> tuple[Any, Any]:
        if rest or options or not fits(query, key, cos, sin):
            return rotation(query, key, cos, sin, *rest, **options)
        return kernel.rotate(query, cos, sin), kernel.rotate(key, cos, sin)

    return rotate


def fits(query: Any, key: Any, cos: Any, sin: Any) -> bool:
    """One flat row of tokens, [1, heads, N, D] and [1, N, D], whose heads are turned whole and in one dtype."""
    one_row = query.dim() == 4 and len(query) == len(cos) == 1
    alike = query.shape[2:] == key.shape[2:] == cos.shape[1:] == sin.shape[1:]
    readable = query.stride(-1) == key.stride(-1) == 1 and query.dtype == key.dtype == cos.dtype == sin.dtype
    return bool(one_row and alike and readable)


def is_replaceable(rotation: Rotation, model: Any, kernel: Kernel) -> bool:
    """Whether the kernel gives what `rotation` gives, on a few random queries and keys."""
    import torch

    heads, dim = key_shape(model.config)
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, model.config.num_attention_heads, TRIAL_ROWS, dim), (1, heads, TRIAL_ROWS, dim))
    query, key = (torch.randn(shape, generator=generator).to(model.dtype) for shape in shapes)
    angles = torch.randn(1, TRIAL_ROWS, dim // 2, generator=generator).repeat(1, 1, 2)
    cos, sin = angles.cos().to(model.dtype), angles.sin().to(model.dtype)
    with torch.inference_mode():
        expected = torch.cat(rotation(query, key, cos, sin), 1).float()
        found = torch.cat([kernel.rotate(query, cos, sin), kernel.rotate(key, cos, sin)], 1).float()
    return bool((found - expected).abs().max() <= TOLERANCE[str(model.dtype)] * expected.abs().max())
