"""Which of many texts share enough words with a new one: an exact set-similarity join that grows text by text.

A ROUGE-L above t takes a common subsequence of more than t (m + n) / 2 words, for texts of m and n words, so at least
as many words are shared, whatever their order. That leaves few texts to compare with:

- length: a text more than (2 - t) / t times as long as the other cannot share that many (1.86 at t = 0.7);
- prefix (Chaudhuri et al. 2006): of two texts that share `needed` words, the m - needed + 1 rarest of the one and the
  n - needed + 1 rarest of the other have a word in common, so only the rare words of a text are looked up;
- signature: bits in which the parities of the words differ each stand for at least one word that is not shared.

What is left may be unlike, and nothing alike is left out.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from itertools import pairwise

import numpy as np

from selfalign.filters.overlap_words import (
    Numbers,
    Ranking,
    Words,
    blocks,
    distinct,
    places_in,
    runs_of,
    signature,
    signatures_of,
)

REACH_BITS = 20
"""Bits of a posting that hold its reach; the others are the number of the text."""
LAST_REACH = (1 << REACH_BITS) - 1
FIRST_RANKING = 1024
"""Texts after which words are first ranked by how many texts hold them; again whenever there are twice as many."""
FEW = 64
"""Texts that are entered one by one: more at once are entered by numpy, with the same outcome."""
SLACK = 1e-6
"""Words; far above the rounding of t (m + n) / 2, so that what floating point calls alike is never left out."""


def length_classes(longest: int = 1 << 24, growth: float = 1.3) -> list[int]:
    """The smallest length of each class: short lengths have their own, then each class is 30 % wider."""
    edges = [1]
    while edges[-1] < longest:
        edges.append(max(edges[-1] + 1, int(edges[-1] * growth)))
    return edges


CLASSES = length_classes()


class OverlapIndex:
    """Texts as strings of one character a word, numbered in the order added.

    Words are ranked by the number of texts that hold them, as counted when the index was last built; one that came
    later counts as rarest. Ranks must not change between two builds, so the index is built anew whenever the texts have
    doubled: over all texts that enters each of them about once more.

    A posting is a text and its reach: the longest text that this word must lead to it. A longer one needs to share more
    words, of which one is rarer.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.texts: list[str] = []
        self._lengths = array("q")
        self._signatures = (array("Q"), array("Q"))
        self._ranking = Ranking(())
        self._postings: list[dict[int, array[int]]] = []
        self._posted = 0

    def add(self, text: str) -> None:
        """A text of at least one word. It is entered when it is first looked for: a resumed run adds all at once."""
        self.texts.append(text)

    def near(self, text: str) -> list[int]:
        """The numbers, in order, of all texts that may have a ROUGE-L above the threshold with `text`."""
        self._enter_added()
        length = len(text)
        elements = list(distinct(text))
        postings = np.frombuffer(self._look_up(length, self._ranking.ranked(elements)), np.int64)
        numbers = postings[(postings & LAST_REACH) >= min(length, LAST_REACH)] >> REACH_BITS
        if not len(numbers):
            return []
        differing = np.zeros(len(numbers), np.uint8)
        for half, bits in zip(self._signatures, signature(elements), strict=True):
            differing += np.bitwise_count(np.frombuffer(half, np.uint64)[numbers] ^ np.uint64(bits))
        lengths = np.frombuffer(self._lengths, np.int64)[numbers]
        near = differing <= (1 - self.threshold) * (lengths + length) + 2 * SLACK
        return sorted(set(numbers[near].tolist()))

    def _look_up(self, length: int, words: list[int]) -> bytes:
        """The postings of the rarest words in the classes of fitting lengths."""
        found: list[array[int]] = []
        shortest, longest = self._fitting(length)
        for at in range(class_of(shortest), min(class_of(longest) + 1, len(self._postings))):
            postings = self._postings[at]
            count = length - self._needed(length, max(CLASSES[at], shortest)) + 1
            found += [postings[word] for word in words[:count] if word in postings]
        return b"".join(found)

    def _enter_added(self) -> None:
        if len(self.texts) >= max(2 * self._ranking.texts, FIRST_RANKING):
            self._ranking = Ranking(self.texts)
            self._postings, self._posted = [], 0
        if len(self.texts) - self._posted > FEW:
            for first, words in blocks(self.texts, self._posted):
                self._sign_all(first, words)
                self._post_all(first, words)
        else:
            for number in range(self._posted, len(self.texts)):
                elements = list(distinct(self.texts[number]))
                self._sign(number, elements)
                self._post(number, elements)
        self._posted = len(self.texts)

    def _sign(self, number: int, elements: list[int]) -> None:
        """Note length and signature, once."""
        if number == len(self._lengths):
            self._lengths.append(len(elements))
            for half, bits in zip(self._signatures, signature(elements), strict=True):
                half.append(bits)

    def _sign_all(self, first: int, words: Words) -> None:
        """What `_sign` notes, of the texts that begin at number `first`."""
        new = len(self._lengths) - first
        self._lengths.frombytes(words.lengths[new:].tobytes())
        for half, bits in zip(self._signatures, signatures_of(words), strict=True):
            half.frombytes(bits[new:].tobytes())

    def _post(self, number: int, elements: list[int]) -> None:
        """Enter the words that a text as short as fits would be found by: for a longer one, fewer are needed."""
        length = len(elements)
        postings = self._class(class_of(length))
        for place, word in enumerate(self._ranking.ranked(elements)[: self._prefix(length)]):
            reach = math.floor(2 / self.threshold * (length - place + SLACK)) - length  # needed <= length - place
            entry = number << REACH_BITS | min(reach, LAST_REACH)
            if word in postings:
                postings[word].append(entry)
            else:
                postings[word] = array("q", (entry,))

    def _post_all(self, first: int, words: Words) -> None:
        """What `_post` enters, of the texts that begin at number `first`."""
        ranks = self._ranking.of(words.elements)
        ranks = ranks[np.lexsort((ranks, words.owners))]
        places = places_in(np.append(words.starts, len(ranks)))
        lengths, which = np.unique(words.lengths, return_inverse=True)
        prefixes = np.array([self._prefix(length) for length in lengths.tolist()])[which]
        kept = places < prefixes[words.owners]
        ranks, places, owners = ranks[kept], places[kept], words.owners[kept]
        lengths = words.lengths[owners]
        reach = np.floor(2 / self.threshold * (lengths - places + SLACK)).astype(np.int64) - lengths
        entries = owners + first << REACH_BITS | np.minimum(reach, LAST_REACH)
        self._extend(np.searchsorted(CLASSES, lengths, "right") - 1, ranks, entries)

    def _extend(self, classes: Numbers, ranks: Numbers, entries: Numbers) -> None:
        """Append the entries, each to the postings of its class and word."""
        order = np.lexsort((ranks, classes))
        classes, ranks, packed = classes[order], ranks[order], entries[order].tobytes()
        edges = runs_of(classes, ranks)
        heads, ends = edges[:-1], pairwise((edges * entries.itemsize).tolist())
        for at, word, (start, end) in zip(classes[heads].tolist(), ranks[heads].tolist(), ends, strict=True):
            self._class(at).setdefault(word, array("q")).frombytes(packed[start:end])

    def _class(self, at: int) -> dict[int, array[int]]:
        """The postings of the texts of a class of lengths."""
        while len(self._postings) <= at:
            self._postings.append({})
        return self._postings[at]

    def _prefix(self, length: int) -> int:
        """How many of a text's rarest words are entered."""
        return length - self._needed(length, self._fitting(length)[0]) + 1

    def _needed(self, first: int, second: int) -> int:
        """Words that texts of such lengths share at least where their ROUGE-L is above the threshold."""
        return max(math.ceil(self.threshold / 2 * (first + second) - SLACK), 1)

    def _fitting(self, length: int) -> tuple[int, int]:
        """The shortest and the longest text that may be alike: neither may need more words than the other has."""
        shortest = math.ceil((self.threshold * length - 2 * SLACK) / (2 - self.threshold))
        return max(shortest, 1), math.floor(((2 - self.threshold) * length + 2 * SLACK) / self.threshold)


def class_of(length: int) -> int:
    """The class of a length."""
    return bisect_right(CLASSES, length) - 1
