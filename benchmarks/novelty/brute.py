"""Comparing with everything: what a pair takes with rapidfuzz and with rouge_score, and whether the verdicts agree."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from benchmarks.novelty.run_size import THRESHOLD
from benchmarks.novelty.texts import instructions
from rapidfuzz import process
from rapidfuzz.distance import Indel

from selfalign.filters.novelty import Novelty, quoted
from selfalign.filters.words import words


class Everything:
    """The verdict by the plainest way there is: rapidfuzz on coded words against all, with the threshold as cutoff."""

    def __init__(self) -> None:
        self.alphabet: dict[str, str] = {}
        self.coded: list[str] = []
        self.texts: list[str] = []

    def code(self, text: str) -> str:
        """One character a word."""
        return "".join(self.alphabet.setdefault(word, chr(len(self.alphabet) + 1)) for word in words(text))

    def add(self, text: str) -> None:
        """Compare later texts with this one too."""
        self.coded.append(self.code(text))
        self.texts.append(text)

    def nearest(self, text: str) -> tuple[float, str] | None:
        """Score and text of the first of the nearest, above the threshold."""
        best = process.extractOne(
            self.code(text), self.coded, scorer=Indel.normalized_similarity, score_cutoff=THRESHOLD - 1e-6
        )
        return (best[1], self.texts[best[2]]) if best and best[1] > THRESHOLD else None


def with_rapidfuzz(count: int) -> dict[str, Any]:
    """All of `count` texts: seconds, pairs, and how many verdicts differ from the filter's (0, or it is wrong)."""
    texts, everything, novelty = instructions(count), Everything(), Novelty(THRESHOLD)
    pairs = differing = 0
    seconds = 0.0
    for text in texts:
        pairs += len(everything.texts)
        start = time.process_time()
        nearest = everything.nearest(text)
        seconds += time.process_time() - start
        verdict = novelty.judge(text)
        same = verdict.accepted if nearest is None else verdict.value == nearest[0]
        differing += not (same and (nearest is None or f'"{quoted(nearest[1])}"' in verdict.reason))
        if nearest is None:
            everything.add(text)
            novelty.add(text)
    return {
        "instructions": count,
        "processor_seconds": round(seconds, 2),
        "pairs": pairs,
        "differing_verdicts": differing,
    }


def with_rouge_score(count: int) -> dict[str, Any]:
    """`count` pairs of texts, one after another."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer, texts = RougeScorer(["rougeL"], use_stemmer=False), instructions(count + 1)
    start = time.process_time()
    for first, second in pairwise(texts):
        scorer.score(first, second)
    return {"pairs": count, "processor_seconds": round(time.process_time() - start, 2)}
