"""start: as a sentence begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.start import start

ACCEPTED = [
    "Name a fruit.",
    "'Tis the season: explain.",
    '"To be or not to be": who says it?',
    "“Home” and “house”: how do they differ?",
    "«Bonjour» means what?",
    "(Be brief.) Why is the sky blue?",
    "[Formal] Write to the mayor.",
    "12 people share 3 cakes.",
    "Écris un poème.",
    "ÜBER den Wolken: wer sang das?",
    "¿Qué hora es?",
    "$20 buys how many apples at 40 cents?",
    "  Leading blanks do not matter.",
]
REJECTED = ["", "   ", "- Name a fruit.", ": what?", "...and then?", ")odd", "#1", "* item", "<b>",
            "Привет, как дела?", "你好",
            "“Привет” means what?", "\u0301accent", "!Hola!", "_x_", "🙂 hi", "\u200bhidden"]  # fmt: skip


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepts(text: str) -> None:
    assert start(text).accepted, start(text).reason


@pytest.mark.parametrize("text", REJECTED)
def test_rejects(text: str) -> None:
    verdict = start(text)
    assert (verdict.accepted, verdict.filter) == (False, "start")
    assert verdict.reason


@given(st.text())
def test_judges_any_text(text: str) -> None:
    start(text)
