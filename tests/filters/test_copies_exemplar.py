"""CopiesExemplar: what is the exemplar's, unless the user said it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.copies_exemplar import CopiesExemplar

BATS = "Bats are not actually blind: they can all see, and large fruit bats rely mainly on their eyes and noses."
TOTAL = "The total is 114 euros."
FILTER = CopiesExemplar([BATS, TOTAL])


def test_quotes_the_whole_run() -> None:
    verdict = FILTER.judge("As we know, large fruit bats rely mainly on their eyes and noses, which is fine.")
    assert (verdict.accepted, verdict.filter, verdict.value) == (False, "copies_exemplar", 10.0)
    assert '"large fruit bats rely mainly on their eyes and noses"' in verdict.reason


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("Some large fruit bats rely mainly on their ears, some do not.", True),
        ("Some large fruit bats rely mainly on their eyes and ears.", False),
        ("LARGE fruit-bats rely, mainly, on their eyes and", False),
        ("The total is 20 euros.", False),
        ("The whole bill then comes to 114 euros for three.", True),
        ("", True),
    ],
)
def test_borders(text: str, accepted: bool) -> None:
    assert FILTER.judge(text).accepted is accepted


def test_what_the_user_said_may_be_repeated() -> None:
    text = "Whether large fruit bats rely mainly on their eyes and noses depends on the species, the hour and time."
    assert not FILTER.judge(text).accepted
    assert FILTER.judge(text, allowed="Do large fruit bats rely mainly on their eyes and noses?").accepted
    assert not FILTER.judge(text, allowed="Do large fruit bats rely mainly on their eyes?").accepted


def test_without_exemplars_nothing_is_copied() -> None:
    assert CopiesExemplar([]).judge(BATS).accepted


@given(st.text(), st.text())
def test_judges_any_text(text: str, allowed: str) -> None:
    FILTER.judge(text, allowed)
