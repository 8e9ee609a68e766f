"""Novelty by shared pieces of text, whatever their order: MinHash and locality-sensitive hashing, by datasketch.

An estimate: near the threshold a pair may be missed or its value be off by some 1 / sqrt(`num_perm`) (Broder 1997).
"""

from __future__ import annotations

from typing import Any

from selfalign.filters.novelty import FILTER, quoted
from selfalign.filters.words import runs, words
from selfalign.records import Verdict


class MinHashNovelty:
    """Judges by the highest estimated Jaccard similarity of the runs of `ngram` words of two texts."""

    def __init__(self, threshold: float, ngram: int, num_perm: int) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold = threshold
        self.ngram = ngram
        self._empty = MinHash(num_perm=num_perm)  # copied: the permutations are made once
        self._table = MinHashLSH(threshold=min(threshold, 0.999), num_perm=num_perm)  # 1.0 is refused there
        self._hashes: list[Any] = []
        self._quoted: list[str] = []

    def add(self, text: str) -> None:
        """Compare later texts with this one too. A text without words is like nothing and is passed over."""
        hashed = self._hash(text)
        if hashed is not None:
            self._table.insert(len(self._hashes), hashed)
            self._hashes.append(hashed)
            self._quoted.append(quoted(text))

    def judge(self, text: str) -> Verdict:
        """A rejected text has the estimate as value, and its reason quotes the nearest one (the first of several)."""
        hashed = self._hash(text)
        numbers = sorted(self._table.query(hashed)) if hashed is not None else []
        if not numbers:
            return Verdict.accept()
        nearest = max(numbers, key=lambda number: hashed.jaccard(self._hashes[number]))
        score = float(hashed.jaccard(self._hashes[nearest]))
        if score <= self.threshold:
            return Verdict.accept()
        return Verdict.reject(FILTER, f'Jaccard {score:.2f} (MinHash) with "{self._quoted[nearest]}"', score)

    def _hash(self, text: str) -> Any:
        """Of the runs of words; of a text shorter than a run, of the whole. None where there are no words."""
        from datasketch import LeanMinHash

        tokens = words(text)
        if not tokens:
            return None
        hashed = self._empty.copy()
        hashed.update_batch([" ".join(run).encode() for run in runs(tokens, min(self.ngram, len(tokens)))])
        return LeanMinHash(hashed)
