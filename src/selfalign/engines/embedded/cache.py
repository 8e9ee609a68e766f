"""Keys and values of the sequences being written: one preallocated slot a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LENGTHS = 256
"""Tokens by which the slots of a growing cache get longer."""


class SlotCache:
    """Per layer keys [B, Hk, D, S] and values [B, Hk, S, D]: B slots of S tokens, of which the first are in use.

    Keys stand on end, so that the product with a query runs along memory: a third of the time at 160 tokens.
    """

    def __init__(self, config: Any, slots: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        import torch

        heads, dim = key_shape(config)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(slots, heads, dim, length, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.zeros(slots, heads, length, dim, dtype=dtype, device=device) for _ in layers]

    def keep(self, layer: int, slots: Tensor, places: Tensor, key: Tensor, value: Tensor) -> None:
        """Store the keys and values [1, Hk, N, D] of N tokens, each at its slot and place."""
        self.keys[layer][slots, :, :, places] = key[0].transpose(0, 1)
        self.values[layer][slots, :, places] = value[0].transpose(0, 1)

    def view(self, layer: int, slots: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `slots` slots, the first `length` tokens of each."""
        return self.keys[layer][:slots, ..., :length], self.values[layer][:slots, :, :length]

    def grow(self, slots: int, length: int) -> None:
        """Make room for so many slots of so many tokens, in steps, layer by layer; what is kept stays.

        Slots double and lengths go by `LENGTHS`, so that rows that join one by one are seldom copied.
        """
        have, dim = self.keys[0].shape[0], self.keys[0].shape[3]
        if slots <= have and length <= dim:
            return
        if slots > have:
            slots = 1 << (slots - 1).bit_length()
        if length > dim:
            length = -(-length // LENGTHS) * LENGTHS
        slots, length = max(slots, have), max(length, dim)
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            _, heads, size, _ = keys.shape
            self.keys[layer] = keys.new_zeros(slots, heads, size, length)
            self.keys[layer][:have, ..., :dim] = keys
            self.values[layer] = values.new_zeros(slots, heads, length, size)
            self.values[layer][:have, :, :dim] = values

    def put(self, slot: int, place: int, layers: Sequence[tuple[Tensor, Tensor]], length: int | None = None) -> None:
        """Store keys [Hk, D, n] and values [Hk, n, D] per layer from `place` on; their first `length` tokens."""
        for layer, (keys, values) in enumerate(layers):
            keys, values = keys[..., :length], values[:, :length]
            self.keys[layer][slot, ..., place : place + keys.shape[2]] = keys
            self.values[layer][slot, :, place : place + values.shape[1]] = values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of a slot to another."""
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[target, ..., :length] = keys[source, ..., :length]
            values[target, :, :length] = values[source, :, :length]


def key_shape(config: Any) -> tuple[int, int]:
    """(key-value heads, size of a head)."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads, dim


def bytes_per_token(config: Any, itemsize: int) -> int:
    """Bytes that a token's keys and values take in all layers."""
    heads, dim = key_shape(config)
    return int(2 * config.num_hidden_layers * heads * dim * itemsize)
