"""Words as numbers, for the overlap index: of one text by plain Python, of many at once by numpy, alike.

The k-th occurrence of a word in a text is a word of its own, so that words shared count as often as they stand in both.
One text takes numpy longer than Python; of many at once each takes less than half the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 21
"""A word is one character; what stands above is how often it stood in the text before."""
RANK_SHIFT = 44
BLOCK = 1 << 13
"""Texts that numpy is given at once: 10 MB of numbers."""

Numbers = NDArray[np.int64]


class Words(NamedTuple):
    """The words of many texts: `elements` [N], text after text, and the place among the texts of the `owner` of each.

    `lengths` counts each text's words; `starts` is where they begin.
    """

    elements: Numbers
    owners: Numbers
    lengths: Numbers
    starts: Numbers


def distinct(text: str) -> Iterator[int]:
    """Each word as a number; a word that stood before in the text gives another number each time."""
    counts: dict[str, int] = {}
    for word in text:
        before = counts.get(word, 0)
        counts[word] = before + 1
        yield before << WORD_BITS | ord(word)


def distinct_of(texts: Sequence[str]) -> Words:
    """What `distinct` gives for each text, of at least one word, in the order of the numbers' words."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths) - lengths
    owners = np.repeat(np.arange(len(texts)), lengths)
    words = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    sorted_words = np.sort(owners << WORD_BITS | words)
    before = places_in(runs_of(sorted_words))
    return Words(before << WORD_BITS | sorted_words & (1 << WORD_BITS) - 1, owners, lengths, starts)


def runs_of(*columns: NDArray[Any]) -> Numbers:
    """The edges of the runs of equal rows: where each begins, and the end of the last."""
    changed = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.concatenate([[0], np.flatnonzero(changed) + 1, [len(columns[0])]])


def places_in(edges: Numbers) -> Numbers:
    """0, 1, 2, ... in every run."""
    return np.arange(edges[-1]) - np.repeat(edges[:-1], np.diff(edges))


def signature(elements: Sequence[int]) -> tuple[int, int]:
    """128 parities: of the words whose number falls on that bit. Words that two texts share cancel out."""
    parities = 0
    for element in elements:
        parities ^= 1 << ((element ^ element >> 16) & 127)
    return parities & 0xFFFF_FFFF_FFFF_FFFF, parities >> 64


def signatures_of(words: Words) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """What `signature` gives for each text: the lower halves, and the upper ones."""
    falls = (words.elements ^ words.elements >> 16) & 127
    bits = np.uint64(1) << (falls & 63).astype(np.uint64)
    lower, upper = (np.where(falls >> 6 == half, bits, np.uint64(0)) for half in (0, 1))
    return np.bitwise_xor.reduceat(lower, words.starts), np.bitwise_xor.reduceat(upper, words.starts)


def blocks(texts: Sequence[str], start: int = 0) -> Iterator[tuple[int, Words]]:
    """The words of all texts from the one numbered `start` on, and the number of each block's first text."""
    for first in range(start, len(texts), BLOCK):
        yield first, distinct_of(texts[first : first + BLOCK])


class Ranking:
    """Words from the rarest to the commonest, by how many of some texts hold them; one that none holds is rarer still.

    A rank is a number: the count above the word's own number, which decides between words as common.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = len(texts)
        self._elements, counts = count(texts)
        self._ranks = counts << RANK_SHIFT | self._elements
        self._rank_of = dict(zip(self._elements.tolist(), self._ranks.tolist(), strict=True))

    def ranked(self, elements: Sequence[int]) -> list[int]:
        """The ranks of a text's words, rarest first."""
        ranks = self._rank_of
        return sorted([ranks.get(element, element) for element in elements])

    def of(self, elements: Numbers) -> Numbers:
        """The rank of each, in their order."""
        if not len(self._elements):
            return elements
        places = np.searchsorted(self._elements, elements).clip(max=len(self._elements) - 1)
        return np.where(self._elements[places] == elements, self._ranks[places], elements)


def count(texts: Sequence[str]) -> tuple[Numbers, Numbers]:
    """All distinct words of the texts, sorted, and how many texts hold each."""
    found, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for _, words in blocks(texts):
        more, more_counts = np.unique(words.elements, return_counts=True)
        merged, places = np.unique(np.concatenate([found, more]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, more_counts])).astype(np.int64)
        found = merged
    return found, counts
