"""topic_form: what looks like a topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.topic_form import topic_form

ACCEPTED = ["Weather", "World Cup", "Great Barrier Reef", "5G networks", "1984", "Paris, Texas", "AC/DC", "C#", "C++",
            "Mercury (planet)", "Élysée Palace", "Women's rights", "X-ray", " Weather "]  # fmt: skip
REJECTED = [
    ("", "0 words"),
    ("The great barrier reef", "4 words"),
    ("weather", "not with a capital"),
    ("Weather.", "ends with '.'"),
    ("Why?", "ends with '?'"),
    ("Weather,", "ends with ','"),
    ("Topic: Weather", "holds ':'"),
    ("Weather\nSport", "holds '\\n'"),
    ("Weather\x00", "holds '\\x00'"),
    ("**Weather**", "holds '*'"),
    ("Weather ###", "holds '##'"),
    ("Sports | Games", "holds '|'"),
    ('"Weather"', "holds '\"'"),
    ("- Weather", "begins with '-'"),
    ("A" * 41, "41 characters"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepts(text: str) -> None:
    assert topic_form(text).accepted, topic_form(text).reason


@pytest.mark.parametrize(("text", "reason"), REJECTED)
def test_rejects(text: str, reason: str) -> None:
    verdict = topic_form(text)
    assert (verdict.accepted, verdict.filter) == (False, "topic_form")
    assert reason in verdict.reason


def test_forty_characters_are_allowed() -> None:
    assert topic_form("A" * 40).accepted


@given(st.text())
def test_judges_any_text(text: str) -> None:
    topic_form(text)
