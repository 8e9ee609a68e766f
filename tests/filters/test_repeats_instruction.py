"""repeats_instruction: an echo goes, a quote stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.repeats_instruction import repeats_instruction

WHY = "Why does bread go stale faster in the fridge than on the counter?"
EDIT = "Restore the missing punctuation and capitals.\nwhen maria opened the letter she said oh no its from the bank"

CASES = [
    (WHY, WHY, False),
    (f'"{WHY.upper()}" Because cold speeds up starch.', WHY, False),
    ("Why does bread go stale faster in the fridge than on a counter", WHY, False),
    ("bread go stale faster in the fridge than on the counter", WHY, False),
    ("In the fridge, starch crystallises faster, so bread goes stale sooner than on the counter.", WHY, True),
    ("You ask why bread goes stale. It is the starch, which crystallises in the cold.", WHY, True),
    ("On the counter", WHY, True),
    ('When Maria opened the letter, she said, "Oh no, it\'s from the bank."', EDIT, True),
    ("When Maria opened the letter she said oh no its from the bank", EDIT, True),
    (EDIT, EDIT, False),
    ("He goes to school every day.", "Proofread: He go to school every day.", True),
    ("phishing", "Evaluate the email as genuine or phishing, one word only.", True),
    ("an elephant", "Which is heavier, an elephant or two hundred house cats?", True),
    ("Entropy is a measure of disorder.", "Entropy", True),
    ("", WHY, True),
    (WHY, "", True),
]


@pytest.mark.parametrize(("response", "instruction", "accepted"), CASES)
def test_cases(response: str, instruction: str, accepted: bool) -> None:
    verdict = repeats_instruction(response, instruction)
    assert verdict.accepted is accepted, verdict.reason
    assert accepted or verdict.filter == "repeats_instruction"


@given(st.text(), st.text())
def test_judges_any_text(response: str, instruction: str) -> None:
    repeats_instruction(response, instruction)
