"""Intervals and paired tests against values worked out elsewhere."""

import numpy
import pytest

from selfalign.evaluation.statistics import (
    bootstrap_mean,
    compare_paired,
    difference_of_paired_shares,
    interval_of,
    mcnemar,
    paired_bootstrap,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # Brown, Cai and DasGupta's formula by hand
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (270, 817, 0.2991, 0.3634),
    ],
)
def test_wilsons_interval_has_its_known_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_the_bootstrap_agrees_with_the_normal_interval_and_repeats_itself() -> None:
    values = [i / 100 for i in range(100)]  # mean 0.495, standard error 0.02887
    interval = bootstrap_mean(values, seed=3)
    assert interval == pytest.approx((0.495 - 1.96 * 0.02887, 0.495 + 1.96 * 0.02887), abs=0.004)
    assert interval == bootstrap_mean(values, seed=3)
    assert interval != bootstrap_mean(values, seed=4)


def test_blocks_do_not_change_what_is_drawn_to(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_mean([0.1, 0.5, 0.9], seed=1, draws=1000)
    monkeypatch.setattr("selfalign.evaluation.statistics.BLOCK", 30)
    assert bootstrap_mean([0.1, 0.5, 0.9], seed=1, draws=1000) == pytest.approx(whole, abs=0.1)


def test_proportions_get_wilsons_interval_and_other_values_the_bootstraps() -> None:
    assert interval_of([1, 0, 1, 1]) == (wilson(3, 4), "wilson")
    assert interval_of([0.2, 0.4])[1] == "bootstrap"


def test_pairs_that_are_all_ties_are_no_certainty() -> None:
    assert interval_of([0.5] * 10) == (wilson(5, 10), "wilson")
    assert interval_of([12.0] * 10) == ((12.0, 12.0), "bootstrap")


def test_mcnemar_is_the_exact_binomial_over_the_questions_that_differ() -> None:
    a = [1] * 10 + [0] * 2 + [1] * 50
    b = [0] * 10 + [1] * 2 + [1] * 50
    assert mcnemar(a, b) == pytest.approx(0.03857, abs=1e-5)  # 2 * (1 + 12 + 66) / 4096
    assert mcnemar([1, 0], [1, 0]) == 1.0
    assert mcnemar([0] * 3000, [1] * 3000) == 0.0 or mcnemar([0] * 3000, [1] * 3000) < 1e-300


def test_a_paired_difference_is_of_the_second_over_the_first() -> None:
    a, b = [0.0, 0.5, 0.25, 0.25] * 3, [0.5, 1.0, 0.75, 0.75] * 3
    paired = paired_bootstrap(a, b)
    assert (paired.difference, paired.interval, paired.n) == (0.5, (0.5, 0.5), 12)
    assert not paired.is_noise


def test_a_few_questions_that_all_lie_one_way_are_still_few() -> None:
    """Of two equals the signs of n differences agree by chance once in 2^(n-1): no p-value may be lower."""
    assert paired_bootstrap([0.2], [0.9]).p_value == 1.0
    assert paired_bootstrap([0.2, 0.3], [0.9, 0.9]).p_value == pytest.approx(0.5, abs=0.02)
    assert paired_bootstrap([0.1] * 5, [0.5, 0.6, 0.7, 0.8, 0.9]).p_value == pytest.approx(1 / 16, abs=0.01)


def test_two_equals_are_called_different_as_often_as_is_said() -> None:
    random = numpy.random.default_rng(0)
    for n in (3, 8, 20):
        found = [paired_bootstrap(*random.normal(size=(2, n)).tolist(), draws=400).is_noise for _ in range(300)]
        assert found.count(False) <= 27  # 5 % are 15; more than 27 come once in 500 times


def test_signs_drawn_for_zeros_and_ones_give_mcnemars_p() -> None:
    a, b = [1.0] * 9 + [0.0] * 2 + [1.0] * 20, [0.0] * 9 + [1.0] * 2 + [1.0] * 20
    assert paired_bootstrap(a, b).p_value == pytest.approx(mcnemar(a, b), abs=0.01)


def test_newcombes_paired_interval_has_its_published_value() -> None:
    """His example of 36 right in both, 12 in one alone, 2 in the other alone."""
    one, other = [1] * 36 + [1] * 12 + [0] * 2, [1] * 36 + [0] * 12 + [1] * 2
    assert difference_of_paired_shares(other, one) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    assert difference_of_paired_shares(one, other) == pytest.approx((-0.3404, -0.0569), abs=1e-4)


def test_two_that_agree_everywhere_may_differ_elsewhere() -> None:
    paired = compare_paired([0.0] * 40, [0.0] * 40)
    assert paired.p_value == 1.0
    assert paired.interval == pytest.approx((-0.0876, 0.0876), abs=1e-4)  # Wilson's upper end of 0 in 40


def test_equal_outcomes_are_noise_and_so_is_one_question_of_many() -> None:
    assert paired_bootstrap([0.1, 0.9], [0.1, 0.9]).p_value == 1.0
    a = [0.0] * 50
    assert compare_paired(a, [1.0, *a[1:]]).is_noise


def test_zeros_and_ones_are_compared_by_mcnemar() -> None:
    a, b = [0.0] * 8 + [1.0] * 8, [1.0] * 16
    paired = compare_paired(a, b)
    assert (paired.method, paired.p_value, paired.is_noise) == ("McNemar exact", 2 / 2**8, False)
    assert compare_paired([0.5, *a], [0.25, *b]).method == "paired bootstrap"


def test_outcomes_of_other_questions_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare_paired([1.0, 0.0], [1.0])
