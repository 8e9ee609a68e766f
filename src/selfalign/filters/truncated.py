"""Completions that the token limit cut."""

from __future__ import annotations

from selfalign.records import Verdict


def truncated(finish_reason: str) -> Verdict:
    """Rejects the finish reason "length": the last item of the completion may be cut in the middle."""
    if finish_reason == "length":
        return Verdict.reject("truncated", 'finish reason "length": the last item may be cut')
    return Verdict.accept()
