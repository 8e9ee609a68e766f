"""Responses that are there."""

from __future__ import annotations

from selfalign.filters.words import count_words
from selfalign.records import Verdict


def no_response(text: str) -> Verdict:
    """Rejects a text without a word: the model fell silent, which is another fault than a short answer."""
    count = count_words(text)
    return Verdict.accept(count) if count else Verdict.reject("no_response", "no response: 0 words", 0)
