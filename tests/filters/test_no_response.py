"""no_response: a word is a response."""

from __future__ import annotations

import pytest

from selfalign.filters.no_response import no_response


@pytest.mark.parametrize(
    ("text", "accepted"), [("", False), (" \n\t", False), ("...", False), ("B", True), ("42", True)]
)
def test_borders(text: str, accepted: bool) -> None:
    assert no_response(text).accepted is accepted
