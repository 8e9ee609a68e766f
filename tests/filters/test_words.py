"""Words and ROUGE-L, held against the reference implementation."""

from __future__ import annotations

import random

import pytest

from selfalign.filters.words import all_runs, count_words, holds_run, rouge_l, shared_run, words

VOCABULARY = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "hill",
    "and",
    "then",
    "it's",
    "42",
    "don't",
    "Blue",
    "sky-high,",
    "end.",
    "why?",
    "(so)",
]


def sentence(generator: random.Random) -> str:
    return " ".join(generator.choices(VOCABULARY, k=generator.randint(0, 25)))


def test_rouge_l_equals_rouge_score_on_random_pairs() -> None:
    generator = random.Random(0)
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    for _ in range(300):
        first, second = sentence(generator), sentence(generator)
        expected = scorer.score(first, second)["rougeL"].fmeasure
        assert rouge_l(words(first), words(second)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("text", "count"), [("", 0), ("- * -", 0), ("don't stop", 2), ("a\nb\tc", 3), ("- one", 1)])
def test_counts_what_a_reader_would_count(text: str, count: int) -> None:
    assert count_words(text) == count


def test_the_shared_run_is_as_long_as_it_goes() -> None:
    known = all_runs(["a b c d e f"], 3)
    assert shared_run(list("xbcdey"), known, 3) == ("b", "c", "d", "e")
    assert shared_run(list("xbcyde"), known, 3) == ()


def test_a_run_is_made_of_whole_words() -> None:
    assert holds_run(["one", "two", "three"], ["two", "three"])
    assert not holds_run(["one", "two", "threefold"], ["two", "three"])
