"""Instructions unlike everything accepted before."""

from __future__ import annotations

import sys

from rapidfuzz import process
from rapidfuzz.distance import Indel

from selfalign.filters.words import words
from selfalign.records import Verdict

UNKNOWN = "\0"
QUOTED = 60


class Novelty:
    """Judges by the highest ROUGE-L F-measure against everything added; up to `threshold`, a text is new.

    Each known word is one character of a private alphabet, so that a text is a string, which rapidfuzz compares
    bit-parallel: 2,000 texts are judged against each other in under a second. A word that no added text holds is
    `UNKNOWN`, which matches nothing. No score cutoff is passed: the best score so far serves as one, so that the exact
    value of an accepted text costs no more (measured on 20,000 texts: 3 ms a judgement with and without).
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._alphabet: dict[str, str] = {}
        self._texts: list[str] = []
        self._coded: list[str] = []

    def add(self, text: str) -> None:
        """Compare later texts with this one too. A text without words is like nothing and is passed over."""
        tokens = words(text)
        for token in tokens:
            if token not in self._alphabet and len(self._alphabet) < sys.maxunicode:
                self._alphabet[token] = chr(len(self._alphabet) + 1)
        if tokens:
            self._texts.append(text)
            self._coded.append(self._code(tokens))

    def judge(self, text: str) -> Verdict:
        """Value: the highest ROUGE-L F-measure, 0 where nothing shares a word. The reason quotes the nearest text."""
        coded = self._code(words(text))
        best = process.extractOne(coded, self._coded, scorer=Indel.normalized_similarity) if coded else None
        if best is None:
            return Verdict.accept(0.0)
        _, score, at = best
        if score <= self.threshold:
            return Verdict.accept(score)
        nearest = self._texts[at]
        quoted = nearest[:QUOTED] + "..." * (len(nearest) > QUOTED)
        return Verdict.reject("novelty", f'ROUGE-L {score:.2f} with "{quoted}"', score)

    def _code(self, tokens: list[str]) -> str:
        return "".join(self._alphabet.get(token, UNKNOWN) for token in tokens)
