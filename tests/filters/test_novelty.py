"""Novelty: the nearest of everything added, exactly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.novelty import Novelty
from selfalign.filters.words import rouge_l, words

FOX = "the quick brown fox jumps over the lazy dog today"


def judge_after(texts: list[str], text: str, threshold: float = 0.7) -> tuple[bool, float | None]:
    novelty = Novelty(threshold)
    for known in texts:
        novelty.add(known)
    verdict = novelty.judge(text)
    return verdict.accepted, verdict.value


@pytest.mark.parametrize(
    ("text", "accepted", "value"),
    [
        (FOX, False, 1.0),
        ("The QUICK brown fox; jumps over -- the lazy dog today!", False, 1.0),
        ("the quick brown fox jumps over the one two three", True, 0.7),
        ("the quick brown fox jumps over the lazy one two", False, 0.8),
        ("nothing in common", True, 0.0),
        ("", True, 0.0),
        ("?!", True, 0.0),
    ],
)
def test_the_threshold_itself_is_new_enough(text: str, accepted: bool, value: float) -> None:
    verdict, score = judge_after([FOX, "", "some other text"], text)
    assert verdict is accepted
    assert score == pytest.approx(value)


def test_the_reason_quotes_the_nearest_text() -> None:
    novelty = Novelty(0.7)
    novelty.add("unrelated words here")
    novelty.add(FOX + " and then it sleeps under the old oak tree near the river")
    verdict = novelty.judge(FOX + " and then it sleeps under the old oak tree near the lake")
    assert verdict.filter == "novelty"
    assert verdict.reason.startswith('ROUGE-L 0.95 with "the quick brown fox jumps over the lazy dog today and then')
    assert verdict.reason.endswith('..."')


def test_nothing_added_makes_everything_new() -> None:
    assert judge_after([], FOX) == (True, 0.0)


def test_the_value_is_the_highest_rouge_l() -> None:
    generator = random.Random(1)
    texts = [" ".join(generator.choices("abcdefgh", k=generator.randint(1, 12))) for _ in range(60)]
    for text in texts:
        expected = max(rouge_l(words(text), words(other)) for other in texts if other != text)
        assert judge_after([other for other in texts if other != text], text)[1] == pytest.approx(expected, abs=1e-12)


def test_judges_two_thousand_texts_in_the_time_of_a_test() -> None:
    generator = random.Random(2)
    vocabulary = [f"word{number}" for number in range(2000)]
    novelty = Novelty(0.7)
    accepted = 0
    for _ in range(2000):
        text = " ".join(generator.choices(vocabulary, k=20))
        accepted += novelty.judge(text).accepted
        novelty.add(text)
    assert accepted == 2000


def test_an_alphabet_larger_than_the_basic_plane() -> None:
    novelty = Novelty(0.7)
    novelty.add(" ".join(f"w{number}" for number in range(70_000)))
    assert novelty.judge("w56000 w69999 unknown").value == pytest.approx(4 / 70_003)


@given(st.lists(st.text(), max_size=5), st.text())
def test_judges_any_text(texts: list[str], text: str) -> None:
    judge_after(texts, text)
