"""Instructions of a usable length."""

from __future__ import annotations

from selfalign.filters.words import count_words
from selfalign.records import Verdict


def length(text: str, min_words: int, max_words: int) -> Verdict:
    """Rejects fewer than `min_words` or more than `max_words` words; both borders are allowed. Value: words."""
    count = count_words(text)
    if count < min_words:
        return Verdict.reject("length", f"{count} words, fewest allowed {min_words}", count)
    if count > max_words:
        return Verdict.reject("length", f"{count} words, most allowed {max_words}", count)
    return Verdict.accept(count)
