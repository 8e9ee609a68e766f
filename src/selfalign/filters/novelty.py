"""Instructions unlike everything accepted before."""

from __future__ import annotations

import sys

from rapidfuzz import process
from rapidfuzz.distance import Indel

from selfalign.filters.overlap_index import SLACK, OverlapIndex
from selfalign.filters.words import words
from selfalign.records import Verdict

FILTER = "novelty"
UNKNOWN = "\0"
QUOTED = 60


class Novelty:
    """Judges by the highest ROUGE-L F-measure against everything added; up to `threshold`, a text is new.

    Verdict, value and nearest text (the first of several) are those of a comparison with everything, and few
    comparisons are made: `OverlapIndex` finds the texts that share enough words, rapidfuzz settles those (`settled`
    counts them). Each known word is one character of a private alphabet, so that a text is a string, which rapidfuzz
    compares bit-parallel. A word that no added text holds is `UNKNOWN`, which matches nothing.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.settled = 0
        self._alphabet: dict[str, str] = {}
        self._index = OverlapIndex(threshold)
        self._numbers: dict[str, int] = {}
        self._quoted: list[str] = []

    def add(self, text: str) -> None:
        """Compare later texts with this one too. One without words, or with the words of another, changes nothing."""
        tokens = words(text)
        coded = self._code(tokens)
        if UNKNOWN in coded:
            coded = self._learned(tokens)
        if coded and coded not in self._numbers:
            self._numbers[coded] = len(self._quoted)
            self._quoted.append(quoted(text))
            self._index.add(coded)

    def judge(self, text: str) -> Verdict:
        """A rejected text has its ROUGE-L as value, and its reason quotes the nearest one. A new one is not measured.

        What is new has some value up to the threshold; to find it would take the comparisons that the index spares.
        """
        nearest = self._nearest(self._code(words(text)))
        if nearest is None or nearest[0] <= self.threshold:
            return Verdict.accept()
        score, number = nearest
        return Verdict.reject(FILTER, f'ROUGE-L {score:.2f} with "{self._quoted[number]}"', score)

    def _nearest(self, coded: str) -> tuple[float, int] | None:
        """Score and number of the first of the nearest texts, if any may lie above the threshold."""
        if coded in self._numbers:
            return 1.0, self._numbers[coded]
        numbers = self._index.near(coded) if coded else []
        if not numbers:
            return None
        self.settled += len(numbers)
        texts = [self._index.texts[number] for number in numbers]
        cutoff = self.threshold - SLACK  # rapidfuzz may leave out what rounding alone lifts above a cutoff
        best = process.extractOne(coded, texts, scorer=Indel.normalized_similarity, score_cutoff=cutoff)
        return best and (best[1], numbers[best[2]])

    def _learned(self, tokens: list[str]) -> str:
        """The code of words of which some are new: those get a character, while there are any."""
        for token in tokens:
            if token not in self._alphabet and len(self._alphabet) < sys.maxunicode:
                self._alphabet[token] = chr(len(self._alphabet) + 1)
        return self._code(tokens)

    def _code(self, tokens: list[str]) -> str:
        return "".join([self._alphabet.get(token, UNKNOWN) for token in tokens])


def quoted(text: str) -> str:
    """The beginning of a text, as a reason names it."""
    return text[:QUOTED] + "..." * (len(text) > QUOTED)
