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
    """The interval of a mean, and its method: Wilson's where all values are 0 or 1, else the bootstrap's."""
    if are_binary(values):
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


def paired_bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0, draws: int = DRAWS) -> Paired:
    """The mean of `b` less that of `a`, resampled by question."""
    import numpy

    differences = [y - x for x, y in zip(a, b, strict=True)]
    observed = float(numpy.mean(differences))
    means = numpy.concatenate(list(resampled_means(differences, seed, draws)))
    return resampled_difference(observed, means, len(differences), "paired bootstrap")


def resampled_difference(observed: float, drawn: numpy.ndarray, n: int, method: str) -> Paired:
    """A difference with what resampling tells of it.

    The p-value is the share of resamples that lie as far from the difference as that lies from 0 (Efron and Tibshirani
    1993, section 16.4), the observed one counted in, so that it is never 0.
    """
    import numpy

    # What rounding makes of equal sums must not decide.
    as_far = int((numpy.abs(drawn - observed) >= abs(observed) - 1e-12).sum())
    return Paired(observed, percentiles(drawn), (1 + as_far) / (1 + len(drawn)), n, method)


def compare_paired(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Paired:
    """How much higher `b` is, question by question; its p-value is McNemar's where all values are 0 or 1."""
    paired = paired_bootstrap(a, b, seed)
    if are_binary(a) and are_binary(b):
        return paired._replace(p_value=mcnemar(a, b), method="McNemar exact")
    return paired
