"""Novelty: the verdict, value and nearest text of a comparison with everything, without making it."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from benchmarks.novelty.texts import instructions
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import process
from rapidfuzz.distance import Indel

from selfalign.filters import overlap_index, overlap_words
from selfalign.filters.novelty import Novelty, quoted
from selfalign.filters.overlap_index import OverlapIndex
from selfalign.filters.words import rouge_l, words
from selfalign.records import Verdict

FOX = "the quick brown fox jumps over the lazy dog today"


def judge_after(texts: list[str], text: str, threshold: float = 0.7) -> Verdict:
    novelty = Novelty(threshold)
    for known in texts:
        novelty.add(known)
    return novelty.judge(text)


def compare_with_everything(known: list[str], text: str, threshold: float) -> Verdict:
    """The plainest way: every ROUGE-L, and the first of the highest."""
    tokens = words(text)
    scores = [rouge_l(tokens, words(other)) for other in known]
    highest = max(scores, default=0.0)
    if highest <= threshold:
        return Verdict.accept()
    nearest = quoted(known[scores.index(highest)])
    return Verdict.reject("novelty", f'ROUGE-L {highest:.2f} with "{nearest}"', highest)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (FOX, 1.0),
        ("The QUICK brown fox; jumps over -- the lazy dog today!", 1.0),
        ("the quick brown fox jumps over the one two three", None),  # 0.7
        ("the quick brown fox jumps over the lazy one two", 0.8),
        ("today dog lazy the over jumps fox brown quick the", None),  # the same words, 0.1
        ("nothing in common", None),
        ("", None),
        ("?!", None),
    ],
)
def test_the_threshold_itself_is_new_enough(text: str, value: float | None) -> None:
    verdict = judge_after([FOX, "", "some other text"], text)
    assert verdict.accepted is (value is None)
    assert verdict.value == pytest.approx(value)


def test_the_reason_quotes_the_nearest_text() -> None:
    novelty = Novelty(0.7)
    novelty.add("unrelated words here")
    novelty.add(FOX + " and then it sleeps under the old oak tree near the river")
    verdict = novelty.judge(FOX + " and then it sleeps under the old oak tree near the lake")
    assert verdict.filter == "novelty"
    assert verdict.reason.startswith('ROUGE-L 0.95 with "the quick brown fox jumps over the lazy dog today and then')
    assert verdict.reason.endswith('..."')


def test_of_several_nearest_texts_the_first_is_named() -> None:
    reason = judge_after(["a b c d x", "a b c d y", "a b c d y!"], "a b c d z").reason
    assert reason == 'ROUGE-L 0.80 with "a b c d x"'
    assert judge_after(["A b c!", "a b c"], "a, b, c").reason == 'ROUGE-L 1.00 with "A b c!"'


def test_nothing_added_makes_everything_new() -> None:
    assert judge_after([], FOX) == Verdict.accept()


WORD = st.sampled_from("abcdefghijklmnop")
TEXTS = st.lists(st.lists(WORD, max_size=12).map(" ".join), max_size=40)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.9, 1.0]), st.integers(2, 8), st.integers(0, 4))
def test_verdicts_are_those_of_a_comparison_with_everything(
    texts: list[str], threshold: float, ranked: int, few: int
) -> None:
    """Words are ranked anew after 2 to 8 texts; accepted texts and every third rejected one are added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap_index, "FIRST_RANKING", ranked)
        patch.setattr(overlap_index, "FEW", few)
        novelty, known = Novelty(threshold), list[str]()
        for number, text in enumerate(texts):
            verdict = novelty.judge(text)
            assert verdict == compare_with_everything(known, text, threshold)
            if verdict.accepted or number % 3 == 0:
                novelty.add(text)
                known.append(text)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.sampled_from([0.05, 0.7, 1.0]), st.integers(1, 7), st.lists(st.integers(1, 20), max_size=8))
def test_texts_entered_at_once_are_found_as_those_entered_one_by_one(
    texts: list[str], threshold: float, block: int, portions: list[int]
) -> None:
    """Portions come between two looks: what is known of words then differs, and must differ alike."""
    coded = ["".join(text.split()) for text in texts if text]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap_index, "FIRST_RANKING", 6)
        patch.setattr(overlap_words, "BLOCK", block)
        entered = []
        for few in (0, len(texts)):
            patch.setattr(overlap_index, "FEW", few)
            index, rest, found = OverlapIndex(threshold), iter(coded), []
            for portion in [*portions, len(coded)]:
                for text in islice(rest, portion):
                    index.add(text)
                found.append([index.near(text) for text in coded])
            entered.append((found, index._lengths, index._signatures, index._postings))
        assert entered[0] == entered[1]


def compare_synthetic(count: int) -> tuple[int, float]:
    """Hold the filter's verdicts on instructions against rapidfuzz on all; rejected ones, and the share settled."""
    novelty, alphabet = Novelty(0.7), dict[str, str]()
    coded, known = list[str](), list[str]()
    rejected = pairs = 0
    for text in instructions(count):
        code = "".join(alphabet.setdefault(word, chr(len(alphabet) + 1)) for word in words(text))
        best = process.extractOne(code, coded, scorer=Indel.normalized_similarity)
        verdict = novelty.judge(text)
        pairs += len(coded)
        if best is not None and best[1] > 0.7:
            expected = f'ROUGE-L {best[1]:.2f} with "{quoted(known[best[2]])}"'
            assert (verdict.reason, verdict.value) == (expected, best[1])
            rejected += 1
        else:
            assert verdict == Verdict.accept()
            novelty.add(text)
            coded.append(code)
            known.append(text)
    return rejected, novelty.settled / pairs


def test_instructions_like_the_seeds_are_judged_as_by_comparison_with_everything() -> None:
    rejected, settled = compare_synthetic(1000)
    assert 50 < rejected < 250
    assert settled < 1e-3


@pytest.mark.slow
def test_five_thousand_instructions_are_judged_as_by_comparison_with_everything() -> None:
    rejected, settled = compare_synthetic(5000)
    assert 400 < rejected < 1500
    assert settled < 1e-3


def test_an_alphabet_larger_than_the_basic_plane() -> None:
    novelty = Novelty(0.7)
    novelty.add(" ".join(f"w{number}" for number in range(70_000)))
    assert novelty.judge("w56000 w69999 unknown").accepted
    novelty.add("w56000 w69999 rare")
    assert novelty.judge("w56000 w69999 rare unknown").value == pytest.approx(6 / 7)
    assert novelty.judge(" ".join(f"w{number}" for number in range(20_000, 70_000))).value == pytest.approx(10 / 12)


def test_a_word_repeated_counts_as_often_as_both_texts_have_it() -> None:
    known = "ha " * 100
    assert judge_after([known], "ha " * 90).value == pytest.approx(180 / 190)
    assert judge_after([known], "ha " * 50).accepted


@given(st.lists(st.text(), max_size=5), st.text())
def test_judges_any_text(texts: list[str], text: str) -> None:
    judge_after(texts, text)


def test_random_texts_of_a_small_vocabulary() -> None:
    generator = random.Random(1)
    texts = [" ".join(generator.choices("abcdefgh", k=generator.randint(1, 12))) for _ in range(120)]
    for number, text in enumerate(texts):
        assert judge_after(texts[:number], text) == compare_with_everything(texts[:number], text, 0.7)
