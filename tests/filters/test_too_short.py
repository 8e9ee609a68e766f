"""too_short: the border is allowed."""

from __future__ import annotations

import pytest

from selfalign.filters.too_short import too_short


@pytest.mark.parametrize(
    ("text", "accepted"), [("", False), ("It is four words.", False), ("Now it is five words.", True)]
)
def test_borders(text: str, accepted: bool) -> None:
    verdict = too_short(text, 5)
    assert verdict.accepted is accepted
    assert verdict.value == len(text.split())
