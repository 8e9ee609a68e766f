"""Shared prefixes: keys and values computed once, and shared again between prefixes that begin alike.

A prefix is computed in blocks at fixed places, each by a forward pass of its own under the blocks before it. So a
prefix has the same bits however it came to be known: alone, or as the continuation of one kept earlier (rules, then
rules and style). A run that is resumed depends on that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from selfalign.engines.embedded.attention import Padded, Prefix, Step
from selfalign.engines.embedded.cache import SlotCache, key_shape
from selfalign.engines.embedded.kernel import kernel_of
from selfalign.engines.embedded.numerics import check_finite
from selfalign.engines.embedded.pairs import shared_pairs

BLOCK = 256
"""Tokens of a block: enough for matrix products at full speed, and no more than that is computed twice."""

KEPT = 8
"""Prefixes kept, the one used longest ago dropped first."""

WORTH_SHARING = 32
"""Fewest common tokens that become a prefix of their own where nobody asked for one."""

NOTHING = Prefix(0, ())


class Prefixes:
    """The prefixes that a model knows."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._kept: dict[tuple[int, ...], Prefix] = {}

    def get(self, ids: Sequence[int]) -> Prefix:
        """The prefix of these tokens, computed from where a kept one leaves off."""
        if not ids:
            return NOTHING
        name = tuple(ids)
        prefix = self._kept.pop(name, None) or self._compute(name)
        self._kept[name] = prefix
        while len(self._kept) > KEPT:
            self._kept.pop(next(iter(self._kept)))
        return prefix

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()

    def _compute(self, ids: tuple[int, ...]) -> Prefix:
        import torch

        config, dtype, device = self.model.config, self.model.dtype, self.model.device
        heads, dim = key_shape(config)
        layers = [
            (
                torch.empty(1, heads, dim, len(ids), dtype=dtype, device=device),
                torch.empty(1, heads, len(ids), dim, dtype=dtype, device=device),
            )
            for _ in range(config.num_hidden_layers)
        ]
        done = self._copy_common(ids, layers)
        with torch.inference_mode():
            for start in range(done, len(ids), BLOCK):
                self._compute_block(ids, start, min(start + BLOCK, len(ids)), layers)
        return Prefix(len(ids), layers, shared_pairs(layers, kernel_of(self.model)))

    def _copy_common(self, ids: tuple[int, ...], layers: Sequence[tuple[Any, Any]]) -> int:
        """Take over the whole blocks that a kept prefix has in common; their length in tokens."""
        best, shared = NOTHING, 0
        for name, prefix in self._kept.items():
            common = common_length([ids, name]) // BLOCK * BLOCK
            if common > shared:
                best, shared = prefix, common
        for (keys, values), (kept_keys, kept_values) in zip(layers, best.layers, strict=bool(shared)):
            keys[..., :shared] = kept_keys[..., :shared]
            values[:, :, :shared] = kept_values[:, :, :shared]
        return shared

    def _compute_block(self, ids: tuple[int, ...], start: int, end: int, layers: Sequence[tuple[Any, Any]]) -> None:
        """Fill in the keys and values of tokens `start` to `end`."""
        import torch

        device = self.model.device
        places = torch.arange(end - start, device=device)
        before = Prefix(start, [(keys[..., :start], values[:, :, :start]) for keys, values in layers])
        cache = SlotCache(self.model.config, 1, end - start, self.model.dtype, device)
        step = Step(before, places, cache, torch.zeros_like(places), padded=Padded(places[None], places, None))
        run = forward(self.model, torch.tensor(ids[start:end], device=device), step, places[-1:])
        check_finite(self.model, run, lambda: "the shared prompt")
        for layer, (keys, values) in enumerate(layers):
            keys[..., start:end], values[:, :, start:end] = cache.keys[layer], cache.values[layer]


def forward(model: Any, ids: Any, step: Step, kept: Any) -> Callable[[], Any]:
    """A forward pass over the flat tokens `ids` [N], to be called for logits [kept, V] after the tokens `kept`."""

    def run() -> Any:
        output = model(
            input_ids=ids[None],
            position_ids=(step.places + step.prefix.length)[None],
            use_cache=False,
            logits_to_keep=kept,
            two_part=step,
        )
        return output.logits[0]

    return run


def common_length(rows: Sequence[list[int]] | Sequence[tuple[int, ...]]) -> int:
    """How many first tokens all rows have in common."""
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
