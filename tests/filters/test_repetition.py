"""Repetition: where the circle closes, and what good texts do that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.repetition import cut_repetition, repetition

BATS = "Most bats steer by sound in the dark."

CUT = [
    (f"{BATS} They also see. {BATS} And so on.", f"{BATS} They also see."),
    (f"{BATS} They see. MOST BATS, steer by sound in the dark! More.", f"{BATS} They see."),
    ("- Talk to them calmly about the noise\n- Keep a log\n- Talk to them calmly about the noise\n- More",
     "- Talk to them calmly about the noise\n- Keep a log"),
    ("1. Talk to them calmly about noise\n2. Keep a log\n3. Talk to them calmly about noise",
     "1. Talk to them calmly about noise\n2. Keep a log"),
    ("It works. I am very very very very glad.", "It works."),
    ("Fine. Go on and on and on and on and on", "Fine."),
    ("I am sure. Yes. No. Yes. No. Yes. No. Yes. No.", "I am sure. Yes. No."),
    ("It helps. It is cheap, and it is as quick as it can be, and it is as quick as it can be, and it is",
     "It helps."),
    ("The tide turns twice a day here; the tide turns twice a day here.", ""),
    ("na na na na na", ""),
    ("The answer is no. The answer is no. The answer is no.", "The answer is no."),
    ("It may be. The answer is no! The ANSWER is no. The answer is no", "It may be. The answer is no!"),
    ("No rush\nTake it slowly.\n\nTake it slowly.\n\nTake it slowly.", "No rush\nTake it slowly."),
    ("1. Stir well.\n2. Stir well.\n3. Stir well.\n4. Serve.", "1. Stir well."),
    ("The answer is no. Bats fly. The answer is no. Birds fly. The answer is no.", "The answer is no. Bats fly."),
]  # fmt: skip

KEPT = [
    "",
    "One sentence only.",
    "A b c d e. A b c d e.",
    "In the middle of the night, he woke. In the middle of the night, she left.",
    "That is very, very, very good.",
    "The row is 0, 0, 0, 0, 0, 0.",
    "Take it slowly. Take it slowly.",
    "Ha! Ha! Ha! He laughed. No! No! No!",
    "Is it big? Yes, it is. Is it grey? Yes, it is. Does it fly? Yes, it is.",
    "Ann: Is it big?\nBob: I do not know.\nAnn: Is it grey?\nBob: I do not know.\nAnn: Is it old?\nBob: I do not know.",
    "Ann: I do not know.\nBob: I do not know.\nCid: I do not know.",
    "One went home.\nThe rest sang on.\nTwo went home.\nThe rest sang on.\nThree went home.\nThe rest sang on.",
    "x = x + 1\nx = x + 1\nx = x + 1\nprint(x)",
    "It goes 1. 0 0. 0 0. 0 0.",
    "```python\nfor item in range(len(rows), 1):\n    a()\nfor item in range(len(rows), 1):\n    b()\n```\nSo.",
    "```\nx = x + x + x + x + x\n",
    "  Blanks at both ends stay.  ",
    "The long road to the north is closed. The long road to the south is open.",
]


@pytest.mark.parametrize(("text", "expected"), CUT)
def test_cuts_at_the_first_repetition(text: str, expected: str) -> None:
    assert cut_repetition(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_leaves_the_rest_unchanged(text: str) -> None:
    assert cut_repetition(text) == text
    assert repetition(text, 1).accepted


def test_rejects_where_less_than_a_third_is_left() -> None:
    verdict = repetition("It is six words long now. " * 4, 5)
    assert (verdict.accepted, verdict.filter, verdict.value) == (False, "repetition", 0.25)
    assert "6 of 24 words" in verdict.reason


def test_rejects_where_too_few_words_are_left() -> None:
    text = "It is six words long now. " * 2
    assert repetition(text, 6).accepted
    assert repetition(text, 6).value == 0.5
    assert not repetition(text, 7).accepted


PIECES = st.sampled_from(
    ["one ", "two ", "three ", "four ", "five ", "six ", ". ", ", ", "\n", "- ", "1. ", "; ", "```\n", "!"]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=80).map("".join)))
def test_the_cut_is_an_idempotent_prefix(text: str) -> None:
    cut = cut_repetition(text)
    assert cut_repetition(cut) == cut
    assert text.startswith(cut)
    assert cut == text or cut == cut.rstrip()
    repetition(text, 5)


def test_the_letter_of_an_item_that_lost_its_words_goes_too() -> None:
    text = "A. The story of Leonardo is a story about you.\nB. The story of Leonardo is a story about you.\nC. No."
    assert cut_repetition(text) == "A. The story of Leonardo is a story about you."
