"""thought_form: a thought has at least four words."""

from __future__ import annotations

import pytest

from selfalign.filters.thought_form import thought_form


@pytest.mark.parametrize(
    ("thought", "accepted"),
    [("", False), (" \n", False), ("3 (helpful)", False), ("Apply 3 (helpful)", False), ("I apply 3 (helpful).", True)],
)
def test_borders(thought: str, accepted: bool) -> None:
    verdict = thought_form(thought)
    assert verdict.accepted is accepted
    assert accepted or verdict.reason.startswith("no thought")
