"""length: both borders are allowed."""

from __future__ import annotations

import pytest

from selfalign.filters.length import length


@pytest.mark.parametrize(
    ("text", "accepted", "count"),
    [
        ("Name three fruits.", False, 3),
        ("Name three red fruits.", True, 4),
        ("one two three four five six", True, 6),
        ("one two three four five six seven", False, 7),
        ("", False, 0),
        ("Don't say - never.", False, 3),
    ],
)
def test_borders(text: str, accepted: bool, count: int) -> None:
    verdict = length(text, 4, 6)
    assert (verdict.accepted, verdict.value) == (accepted, count)
    assert accepted or (verdict.filter == "length" and f"{count} words" in verdict.reason)
