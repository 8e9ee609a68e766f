"""Sampling against its definition."""

from __future__ import annotations

import pytest

from selfalign.engines.embedded import sampling
from selfalign.engines.embedded.sampling import choose
from selfalign.engines.ngrams import NgramPenalty


def draw(logits: list[float], temperature: float, top_p: float, uniform: float) -> int:
    import torch

    row = torch.tensor([logits])
    return int(choose(row, torch.tensor([temperature]), torch.tensor([top_p]), torch.tensor([uniform]))[0])


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draw([0.0, 2.0, 1.0], 0.0, 0.1, 0.999) == 1


def test_the_draw_walks_the_distribution_in_order_of_probability() -> None:
    import math

    logits = [math.log(p) for p in (0.2, 0.5, 0.3)]
    assert [draw(logits, 1.0, 1.0, u) for u in (0.0, 0.49, 0.51, 0.79, 0.81, 0.9999)] == [1, 1, 2, 2, 0, 0]


def test_the_nucleus_is_the_smallest_set_that_holds_top_p() -> None:
    import math

    logits = [math.log(p) for p in (0.2, 0.5, 0.3)]
    assert {draw(logits, 1.0, 0.75, u / 100) for u in range(100)} == {1, 2}
    assert {draw(logits, 1.0, 0.49, u / 100) for u in range(100)} == {1}


@pytest.mark.parametrize("top_p", [0.9, 0.999, 1.0])
def test_a_wide_nucleus_equals_the_narrow_path(monkeypatch: pytest.MonkeyPatch, top_p: float) -> None:
    import torch

    torch.manual_seed(0)
    logits, uniform = torch.randn(40, 300), torch.rand(40)
    settings = (torch.full((40,), 1.3), torch.full((40,), top_p), uniform)
    whole = choose(logits, *settings)
    monkeypatch.setattr(sampling, "CANDIDATES", 5)
    assert torch.equal(choose(logits, *settings), whole)


def test_frequencies_follow_the_softmax() -> None:
    import torch

    torch.manual_seed(1)
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20000, 3)
    ones = torch.ones(20000)
    counts = torch.bincount(choose(logits, ones, ones, torch.rand(20000)), minlength=3) / 20000
    assert torch.allclose(counts, torch.tensor([0.0, 1.0, 2.0]).softmax(0), atol=0.012)  # about 3.5 standard errors


def test_ngram_penalties_count_occurrences() -> None:
    penalty = NgramPenalty((0.5, 0.0, 1.0, 0.0))
    for token in (1, 2, 3, 1, 2):
        penalty.add(token)
    # unigrams: 1 twice, 2 twice, 3 once; trigram: after (1, 2) came 3, once
    assert dict(penalty.current()) == {1: 1.0, 2: 1.0, 3: 1.5}


def test_only_word_starts_are_penalised_where_asked_for() -> None:
    penalty = NgramPenalty((1.0, 0.0, 0.0, 0.0), applies=lambda token: token < 10)
    for token in (1, 20, 20):
        penalty.add(token)
    assert dict(penalty.current()) == {1: 1.0}


@pytest.mark.parametrize("vocabulary", [100, 128 * 64, 128 * 64 + 37])
def test_the_likeliest_tokens_are_those_of_a_whole_sort(vocabulary: int) -> None:
    import torch

    torch.manual_seed(2)
    rows = torch.randn(7, vocabulary).softmax(-1)
    values, places = sampling.likeliest_tokens(rows, 64)
    assert torch.equal(values, rows.sort(-1, descending=True).values[:, :64])
    assert torch.equal(rows.gather(1, places), values)
