"""leaks_style: the prompt's words and an encyclopedia's sections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.leaks_style import leaks_style

STYLE = "A talk with an assistant, which writes long, thorough and detailed answers. Depth never turns into repetition."


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("It is an assistant which writes long thorough and detailed letters.", False),
        ("I prefer one who writes long, thorough and detailed answers, depth never mattering.", False),
        ("She writes long, thorough and detailed answers.", True),
        ("Bats see.\n\nSee also\n- Echolocation", False),
        ("Bats see.\n## External links\n* http", False),
        ("Bats see.\n**See also:** Birds", False),
        ("== See also ==", False),
        ("See also the chapter on birds.", True),
        ("We see also that external links matter.", True),
        ("", True),
    ],
)
def test_cases(text: str, accepted: bool) -> None:
    verdict = leaks_style(text, STYLE)
    assert verdict.accepted is accepted
    assert accepted or verdict.reason


@given(st.text(), st.text())
def test_judges_any_text(text: str, style: str) -> None:
    leaks_style(text, style)
