"""Responses long enough to learn from."""

from __future__ import annotations

from selfalign.filters.words import count_words
from selfalign.records import Verdict


def too_short(text: str, min_words: int) -> Verdict:
    """Rejects fewer than `min_words` words. Value: words."""
    count = count_words(text)
    if count < min_words:
        return Verdict.reject("too_short", f"{count} words, fewest allowed {min_words}", count)
    return Verdict.accept(count)
