"""Words, and how much of them two texts share. The unit of every length and run in `filters` is a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from rapidfuzz.distance import Indel

Run = tuple[str, ...]


def words(text: str) -> list[str]:
    r"""The lower-cased `\w+` runs of a text: what is compared. "Don't" gives two."""
    return re.findall(r"\w+", text.lower())


def count_words(text: str) -> int:
    """How many words a reader would count: pieces between blanks that hold a letter or a digit. "Don't" is one."""
    return sum(any(character.isalnum() for character in piece) for piece in text.split())


def rouge_l(first: Sequence[str], second: Sequence[str]) -> float:
    """The ROUGE-L F-measure of two word lists, 0 to 1 (Lin 2004, equation 4 with beta 1).

    With a longest common subsequence of L words it is 2L / (m + n), which is what the normalized Indel similarity
    computes, bit-parallel. Two empty lists share nothing: 0, as `rouge_score` has it.
    """
    if not first or not second:
        return 0.0
    return Indel.normalized_similarity(first, second)


def runs(tokens: Sequence[str], size: int) -> Iterator[Run]:
    """Every run of `size` consecutive words, in order."""
    return (tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1))


def all_runs(texts: Iterable[str], size: int) -> frozenset[Run]:
    """The runs of `size` consecutive words that stand in any of the texts."""
    return frozenset(run for text in texts for run in runs(words(text), size))


def shared_run(tokens: Sequence[str], known: AbstractSet[Run], size: int) -> Run:
    """The first run of at least `size` words all of whose `size`-word parts are in `known`, or the empty tuple."""
    for at, run in enumerate(runs(tokens, size)):
        if run in known:
            end = at + size
            while end < len(tokens) and tuple(tokens[end - size + 1 : end + 1]) in known:
                end += 1
            return tuple(tokens[at:end])
    return ()


def holds_run(tokens: Sequence[str], part: Sequence[str]) -> bool:
    """Whether `part` stands in `tokens` as consecutive words."""
    return f" {' '.join(part)} " in f" {' '.join(tokens)} "
