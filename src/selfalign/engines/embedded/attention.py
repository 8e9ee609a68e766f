"""Attention in two parts: one over the keys that all sequences share, one over each sequence's own.

Softmax over a union of keys is the two partial results weighted by their log-sum-exp, so the shared part is one matrix
product over all sequences at once and its keys are never copied. The state travels as a keyword argument of the model's
forward call, which transformers hands on to the attention function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "selfalign_two_part"
UNSPLITTABLE = ("softcap", "s_aux", "sliding_window", "position_bias")
"""Attention arguments that change the softmax itself: such a model is refused."""


@dataclass
class AttentionState:
    """What one forward call attends to.

    `prefix`: per layer keys and values, each [1, kv_heads, P, head_dim]; empty where nothing is shared.
    `mask`: additive float32 [B, 1, T, S] over the sequences' own keys.
    """

    prefix: list[tuple[Tensor, Tensor]]
    mask: Tensor


class TailCache:
    """Keys and values of the sequences' own tokens, preallocated: per layer [B, kv_heads, S, head_dim].

    Has the two methods of transformers' cache that a decoder calls.
    """

    is_compileable = False

    def __init__(self, config: Any, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        import torch

        heads = config.num_key_value_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (batch, heads, length, dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.start = 0
        self.end = 0

    def advance(self, count: int) -> None:
        """The next forward call writes `count` more positions."""
        self.start, self.end = self.end, self.end + count

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store the new positions of a layer and return all so far."""
        self.keys[layer][:, :, self.start : self.end] = keys
        self.values[layer][:, :, self.start : self.end] = values
        return self.keys[layer][:, :, : self.end], self.values[layer][:, :, : self.end]

    def get_seq_length(self, *_: Any) -> int:
        """Positions stored before this call."""
        return self.start

    def keep(self, rows: Tensor) -> None:
        """Drop the sequences that are not in `rows`, a layer at a time: never two whole caches at once."""
        for layer in range(len(self.keys)):
            self.keys[layer] = self.keys[layer][rows]
            self.values[layer] = self.values[layer][rows]


def register() -> None:
    """Make the attention known to transformers under `NAME`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, two_part_attention)


def two_part_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    two_part: AttentionState | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers: query [B, H, T, D], key and value [B, Hk, S, D] -> [B, T, H, D]."""
    if two_part is None:
        raise UserError(
            "this model does not hand its attention the shared prefix", "use engine.kind: vllm for this model"
        )
    if any(options.get(name) is not None for name in UNSPLITTABLE):
        raise UserError(
            f"the attention of {type(module).__name__} cannot be split in two parts", "name another base_model"
        )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output, lse = own_part(query, key, value, two_part.mask, scale)
    if two_part.prefix:
        shared_key, shared_value = two_part.prefix[module.layer_idx]
        shared_output, shared_lse = shared_part(query, shared_key, shared_value, scale)
        output = merge(output, lse, shared_output, shared_lse)
    batch, heads, length, dim = query.shape
    return output.reshape(batch, heads, length, dim).to(query.dtype).transpose(1, 2).contiguous(), None


def own_part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output [B, Hk, G, T, D] and log-sum-exp [B, Hk, G, T] over a sequence's own keys; G query heads share one."""
    import torch

    batch, heads, length, dim = query.shape
    kv_heads, size = key.shape[1], key.shape[2]
    if length > 1 and query.device.type == "cpu":
        return own_part_of_prompts(query, key, value, mask, scale)
    grouped = query.reshape(batch, kv_heads, -1, dim)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * scale
    scores = scores.view(batch, kv_heads, heads // kv_heads, length, size) + mask[:, :, None]
    lse = torch.logsumexp(scores, -1)
    weights = torch.exp(scores - lse[..., None]).to(value.dtype)
    output = torch.matmul(weights.view(batch, kv_heads, -1, size), value)
    return output.view(batch, kv_heads, heads // kv_heads, length, dim), lse


def own_part_of_prompts(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The same by the flash kernel, which keeps no [T, S] scores: 0.4 GB a copy for 64 prompts of 400 tokens."""
    import torch

    batch, heads, length, dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    output, lse = kernel(query, key, value, 0.0, False, attn_mask=mask.to(query.dtype), scale=scale)
    return output.view(batch, kv_heads, groups, length, dim), lse.view(batch, kv_heads, groups, length)


def shared_part(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The same over the shared keys [1, Hk, P, D]: the queries of all sequences are one long sequence of queries."""
    batch, heads, length, dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    pooled = query.reshape(batch, kv_heads, groups, length, dim).transpose(0, 1).reshape(1, kv_heads, -1, dim)
    output, lse = attend(pooled, key, value, scale)
    output = output.view(kv_heads, batch, groups, length, dim).transpose(0, 1)
    return output, lse.view(kv_heads, batch, groups, length).transpose(0, 1)


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Unmasked attention and its log-sum-exp: the flash kernel on a CPU, matrix products elsewhere."""
    import torch

    if query.device.type == "cpu":
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, lse = kernel(query, key, value, 0.0, False, attn_mask=None, scale=scale)
        return output, lse
    scores = torch.matmul(query, key.transpose(2, 3)).float() * scale
    lse = torch.logsumexp(scores, -1)
    return torch.matmul(torch.exp(scores - lse[..., None]).to(value.dtype), value), lse


def merge(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    """The attention over both key sets together."""
    import torch

    weight = torch.sigmoid(first_lse - second_lse)[..., None]
    return first * weight + second * (1 - weight)
