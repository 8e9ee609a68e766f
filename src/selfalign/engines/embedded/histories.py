"""Conversations as the model has read them, kept until their next turn: only what is new is read then.

A history holds the keys and values of a sequence that ended, prompt and answer, after the prefix that its batch shared.
The next turn's prompt begins with the same tokens, up to where the answer is written into it in other tokens. What
such a prompt is read as may differ in the last bits from what it would be read as whole, as it may with its neighbours
in a batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from selfalign.engines.embedded.attention import Prefix
from selfalign.engines.embedded.cache import SlotCache
from selfalign.engines.embedded.prefixes import common_length

LEAST = 256
"""Tokens of the shortest history worth keeping: fewer are read with other prompts in one pass."""

TAIL = 16
"""Last tokens of a history that the next turn may write otherwise, and still be the same conversation."""


class History(NamedTuple):
    """Tokens, and per layer their keys [Hk, D, n] and values [Hk, n, D]."""

    ids: list[int]
    layers: Sequence[tuple[Any, Any]]


class Known(NamedTuple):
    """A history, and how many of its first tokens a prompt begins with."""

    history: History
    length: int


class Histories:
    """The histories of all batches, up to so many tokens in all; the one used longest ago is forgotten first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.kept: dict[tuple[Hashable, tuple[int, ...]], History] = {}

    def under(self, batch: Hashable) -> BatchHistories:
        """Those of one batch: of one adapter, and one shared prefix."""
        return BatchHistories(self, batch)

    def clear(self) -> None:
        """Forget all of them."""
        self.kept.clear()


class BatchHistories(NamedTuple):
    """The histories that were read under one shared prefix."""

    all: Histories
    batch: Hashable

    def find(self, ids: list[int]) -> Known | None:
        """What begins like `ids` for the longest; None where that is not worth copying."""
        lengths = {
            name: common_length([ids, history.ids])
            for name, history in self.all.kept.items()
            if name[0] == self.batch and history.ids[0] == ids[0]
        }
        name = max(lengths, key=lambda name: lengths[name], default=None)
        if name is None or lengths[name] < LEAST:
            return None
        history = self.all.kept[name] = self.all.kept.pop(name)
        return Known(history, lengths[name])

    def keep(self, ids: list[int], cache: SlotCache, slot: int) -> None:
        """Remember the first tokens of a slot, which are `ids`, in place of the history that they go on from."""
        kept = self.all.kept
        if not LEAST <= len(ids) <= self.all.most:
            return
        for name, old in list(kept.items()):
            if name[0] == self.batch and common_length([ids, old.ids]) >= len(old.ids) - TAIL:
                del kept[name]
        layers = [
            (keys[slot, ..., : len(ids)].clone(), values[slot, :, : len(ids)].clone())
            for keys, values in zip(cache.keys, cache.values, strict=True)
        ]
        kept[self.batch, tuple(ids)] = History(ids, layers)
        while sum(len(history.ids) for history in kept.values()) > self.all.most:
            del kept[next(iter(kept))]


def joined(prefix: Prefix, known: Known) -> Prefix:
    """The shared prefix and what is known after it, as the prefix of one sequence."""
    import torch

    own = [(keys[None, ..., : known.length], values[None, :, : known.length]) for keys, values in known.history.layers]
    if not prefix.length:
        return Prefix(known.length, own)
    both = [
        (torch.cat((shared_keys, keys), 3), torch.cat((shared_values, values), 2))
        for (shared_keys, shared_values), (keys, values) in zip(prefix.layers, own, strict=True)
    ]
    return Prefix(prefix.length + known.length, both)
