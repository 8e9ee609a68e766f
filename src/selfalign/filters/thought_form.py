"""Internal thoughts that are thoughts."""

from __future__ import annotations

from selfalign.filters.words import count_words
from selfalign.records import Verdict

MIN_WORDS = 4


def thought_form(thought: str) -> Verdict:
    """Rejects an empty thought, or one of fewer than 4 words: a bare "3 (helpful)" weighs nothing. Value: words."""
    count = count_words(thought)
    if count < MIN_WORDS:
        return Verdict.reject("thought_form", f"no thought: {count} words, fewest allowed {MIN_WORDS}", count)
    return Verdict.accept(count)
