"""Responses that came to their own end."""

from __future__ import annotations

from selfalign.records import Verdict

QUOTED = 40


def unfinished(text: str, finish_reason: str) -> Verdict:
    """Rejects the finish reason "length": the token limit cut the text, and a model trained on it learns to."""
    if finish_reason == "length":
        return Verdict.reject("unfinished", f"cut off at the token limit: ...{text.rstrip()[-QUOTED:]!r}")
    return Verdict.accept()
