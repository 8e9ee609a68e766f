"""Intervals and paired tests: no figure of an evaluation stands without its noise.

All random draws are seeded, so the same outcomes give the same interval again. An interval is at 95 % throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy

Z = 1.959963984540054
"""The normal distribution's 97.5 % point: two-sided 95 %."""

DRAWS = 10_000
"""Resamples of a bootstrap: the ends of its interval then move by about 1 % of its width from seed to seed."""

BLOCK = 4_000_000
"""Numbers drawn at once: 32 MB, however many questions there are."""

SIGNIFICANT = 0.05


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


class Paired(NamedTuple):
    """How much higher `b` is than `a` on the same questions, and whether that may be chance."""

    difference: float
    interval: Interval
    p_value: float
    n: int
    method: str

    @property
    def is_noise(self) -> bool:
        """Whether a difference this large is to be expected of two equals (p at least 0.05)."""
        return self.p_value >= SIGNIFICANT


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927): right for small n and near 0 and 1, unlike p +- 2 se."""
    if n < 1:
        raise ValueError("no interval of nothing")
    p = successes / n
    centre = p + Z * Z / (2 * n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def difference_of_shares(a: int, n: int, b: int, m: int) -> Interval:
    """Of `b` in `m` less `a` in `n`, where the two are of different items (Newcombe 1998, method 10)."""
    p, q, (p_low, p_high), (q_low, q_high) = a / n, b / m, wilson(a, n), wilson(b, m)
    below, above = math.hypot(q - q_low, p_high - p), math.hypot(q_high - q, p - p_low)
    return Interval(q - p - below, q - p + above)


def bootstrap_mean(values: Sequence[float], seed: int = 0, draws: int = DRAWS) -> Interval:
    """The percentile bootstrap interval of a mean (Efron 1979), for values that are not 0 or 1."""
    import numpy

    if not len(values):
        raise ValueError("no interval of nothing")
    return percentiles(numpy.concatenate(list(resampled_means(values, seed, draws))))


def percentiles(drawn: numpy.ndarray) -> Interval:
    """The middle 95 % of resampled figures (Efron 1979)."""
    import numpy

    low, high = numpy.quantile(drawn, [0.025, 0.975])
    return Interval(float(low), float(high))


def resampled_means(values: Sequence[float], seed: int, draws: int) -> Iterator[numpy.ndarray]:
    """Means of `draws` resamples with replacement, a block at a time."""
    import numpy

    array = numpy.asarray(values, dtype=float)
    random = numpy.random.default_rng(seed)
    rows = max(1, BLOCK // len(array))
    for start in range(0, draws, rows):
        picked = random.integers(len(array), size=(min(rows, draws - start), len(array)))
        yield array[picked].mean(axis=1)


def interval_of(values: Sequence[float], seed: int = 0) -> tuple[Interval, str]:
    """The interval of a mean, and its method: Wilson's where all values are 0 or 1, else the bootstrap's.

    Shares that are all alike (every pair a tie) have Wilson's too: no values from 0 to 1 spread wider about their mean
    than 0s and 1s do, and resampling what never varies would call it certain.
    """
    if are_binary(values) or (len(set(values)) == 1 and 0 <= values[0] <= 1):
        return wilson(sum(values), len(values)), "wilson"
    return bootstrap_mean(values, seed), "bootstrap"


def are_binary(values: Sequence[float]) -> bool:
    """Whether every value is 0 or 1."""
    return all(value in (0, 1) for value in values)


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float:
    """The p-value of McNemar's exact test (two-sided binomial over the questions where only one of both is right)."""
    only_a = sum(x > y for x, y in zip(a, b, strict=True))
    only_b = sum(x < y for x, y in zip(a, b, strict=True))
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(fewer + 1))
    p_value: float = 2 * tail / 2**n  # integers of any size: exact
    return min(1.0, p_value)


def difference_of_paired_shares(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Of `b` less `a`, both 0 or 1 on the same items (Newcombe 1998, paired method 10).

    Two that agree everywhere get an interval too: resampling would give them none, as though nothing could differ.
    """
    n, right_a, right_b = len(a), sum(a), sum(b)
    both = sum(x * y for x, y in zip(a, b, strict=True))
    p, q, (p_low, p_high), (q_low, q_high) = right_a / n, right_b / n, wilson(right_a, n), wilson(right_b, n)
    spread = math.sqrt(right_a * (n - right_a) * right_b * (n - right_b))
    surplus = both * (n - right_a - right_b + both) - (right_a - both) * (right_b - both)
    phi = (max(surplus - n / 2, 0.0) if surplus > 0 else surplus) / spread if spread else 0.0
    below = squared_off(q - q_low, p_high - p, phi)
    above = squared_off(q_high - q, p - p_low, phi)
    return Interval(q - p - below, q - p + above)


def squared_off(first: float, second: float, correlation: float) -> float:
    """Half an interval of a difference from the halves of both, which are correlated."""
    return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))


def paired_bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0, draws: int = DRAWS) -> Paired:
    """The mean of `b` less that of `a`: its interval by resampling questions, its p-value by `flipped_means`."""
    import numpy

    differences = [y - x for x, y in zip(a, b, strict=True)]
    observed = float(numpy.mean(differences))
    interval = percentiles(numpy.concatenate(list(resampled_means(differences, seed, draws))))
    as_far = sum(at_least(means, abs(observed)) for means in flipped_means(differences, seed, draws))
    return Paired(observed, interval, (1 + as_far) / (1 + draws), len(differences), "paired bootstrap")


def flipped_means(differences: Sequence[float], seed: int, draws: int) -> Iterator[numpy.ndarray]:
    """Means of `draws` sets of differences with signs drawn by lot: what two equals give (wild bootstrap, Liu 1988).

    On values of 0 and 1 this is McNemar's test. How far resamples lie from the observed mean would say too little where
    there are few questions: of two equals on 5 it calls 14 % different, on 2 half.
    """
    import numpy

    array = numpy.asarray(differences, dtype=float)
    random = numpy.random.default_rng(seed)
    rows = max(1, BLOCK // len(array))
    for start in range(0, draws, rows):
        signs = 1 - 2 * random.integers(2, size=(min(rows, draws - start), len(array)), dtype=numpy.int8)
        yield signs @ array / len(array)


def at_least(drawn: numpy.ndarray, size: float) -> int:
    """How many are as far from 0, what rounding makes of equal sums aside."""
    import numpy

    return int((numpy.abs(drawn) >= size - 1e-12).sum())


def compare_paired(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Paired:
    """How much higher `b` is, question by question; where all values are 0 or 1 by McNemar and Newcombe."""
    if not (are_binary(a) and are_binary(b)):
        return paired_bootstrap(a, b, seed)
    difference = (sum(b) - sum(a)) / len(a)
    return Paired(difference, difference_of_paired_shares(a, b), mcnemar(a, b), len(a), "McNemar exact")
