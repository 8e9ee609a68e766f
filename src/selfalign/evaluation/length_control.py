"""The win rate at equal length: what is left of a preference once the liking for long answers is taken off.

As length-controlled AlpacaEval (Dubois et al. 2024, arXiv 2404.04475, equation 2): a logistic regression of the
preference on the length difference, evaluated where that difference is zero. Without its term for a question's
difficulty, which needs the preferences of many models. Two things are stated because the choice is ours:

- lengths are counted in words, and their difference is scaled by its root mean square, not its standard deviation:
  where one model is longer by the same amount everywhere, that leaves it long, and does not divide by zero;
- both coefficients have a weak normal prior (`RIDGE`), so that a model that wins everything gets a large number and
  not an infinite one. If no pair is near equal length the figure is extrapolated, which the interval shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from selfalign.evaluation.statistics import Interval, Paired, at_least, interval_of, percentiles

if TYPE_CHECKING:
    import numpy

RIDGE = 0.05
"""Precision of the prior: a standard deviation of 4.5 logits, which holds win rates from 0.0001 to 0.9999."""

DRAWS = 2000
"""Resamples of the pairs: fewer than for a mean, since each is a regression."""

STEPS = 25
LARGEST_STEP = 2.0
CLOSE_ENOUGH = 1e-8
"""Newton's method: at most so many steps, none larger (in logits), until none is larger than this."""


class LengthControlled(NamedTuple):
    """`win_rate` at equal length with its interval, and how that was found; `slope` in logits per unit of scaled length
    difference.

    `extrapolated` says that one side is the longer in every pair, so that no pair shows what happens at equal length.
    """

    win_rate: float
    interval: Interval
    method: str
    slope: float
    extrapolated: bool


class Judged(NamedTuple):
    """Pairs as they were judged: 1 (won), 0.5 (tie) or 0 of each, and our length less theirs in words."""

    preferences: Sequence[float]
    differences: Sequence[float]


def length_controlled(preferences: Sequence[float], differences: Sequence[float], seed: int = 0) -> LengthControlled:
    """The win rate of pairs at equal length; `preferences` are 1 (won), 0.5 (tie) or 0, `differences` ours less theirs.

    The interval is a percentile bootstrap over pairs; where all ended alike, which resampling would call certain, it is
    Wilson's of the raw rate, since there is nothing that length could explain.
    """
    import numpy

    wins, lengths = numpy.asarray(preferences, dtype=float), scaled(differences)
    (whole,) = fit(wins[None], lengths[None])
    if len(set(preferences)) == 1:
        interval, method = interval_of(preferences)
    else:
        interval, method = percentiles(resampled(wins, lengths, seed)), "bootstrap of a logistic regression"
    one_sided = bool((lengths > 0).all() or (lengths < 0).all())
    return LengthControlled(float(sigmoid(whole[0])), interval, method, float(whole[1]), one_sided)


def length_controlled_gain(a: Judged, b: Judged, seed: int = 0) -> Paired:
    """How much higher the win rate at equal length is in `b` than in `a`: two models against the same opponent on the
    same questions in the same order. The interval resamples questions; the p-value is what `exchanged` gives.
    """
    import numpy

    sides = [(numpy.asarray(side.preferences, dtype=float), scaled(side.differences)) for side in (a, b)]
    before, after = (float(sigmoid(fit(wins[None], lengths[None])[0, 0])) for wins, lengths in sides)
    drawn = numpy.subtract(*(resampled(wins, lengths, seed) for wins, lengths in reversed(sides)))
    as_far = at_least(exchanged(a, b, seed), abs(after - before))
    p_value = (1 + as_far) / (1 + DRAWS)
    return Paired(after - before, percentiles(drawn), p_value, len(a.preferences), "paired bootstrap at equal length")


def exchanged(a: Judged, b: Judged, seed: int) -> numpy.ndarray:
    """Gains of `DRAWS` pairs of models that are no better than each other: whose judged pair is whose is drawn by lot,
    question by question.
    """
    import numpy

    swapped = numpy.random.default_rng(seed).integers(2, size=(DRAWS, len(a.preferences))).astype(bool)
    rates = [
        sigmoid(
            fit(
                numpy.where(mask, one.preferences, other.preferences).astype(float),
                scaled(numpy.where(mask, one.differences, other.differences)),
            )[:, 0]
        )
        for one, other, mask in ((b, a, swapped), (a, b, swapped))
    ]
    gains: numpy.ndarray = rates[0] - rates[1]
    return gains


def resampled(wins: numpy.ndarray, lengths: numpy.ndarray, seed: int) -> numpy.ndarray:
    """Win rates at equal length of `DRAWS` resamples; the same seed draws the same questions."""
    import numpy

    drawn = numpy.random.default_rng(seed).integers(len(wins), size=(DRAWS, len(wins)))
    return sigmoid(fit(wins[drawn], lengths[drawn])[:, 0])


def scaled(words: Sequence[float] | numpy.ndarray) -> numpy.ndarray:
    """tanh of the differences over their root mean square, so that one very long answer does not decide the slope.

    Of shape (pairs,) or (rows, pairs), each row by its own.
    """
    import numpy

    differences = numpy.asarray(words, dtype=float)
    size = numpy.sqrt(numpy.mean(differences**2, axis=-1, keepdims=True))
    scale: numpy.ndarray = numpy.tanh(differences / numpy.where(size, size, 1.0))
    return scale


def fit(wins: numpy.ndarray, lengths: numpy.ndarray) -> numpy.ndarray:
    """(intercept, slope) of each row, both of shape (rows, pairs), by Newton's method on the penalised likelihood."""
    import numpy

    intercept, slope = numpy.zeros((2, len(wins), 1))
    for _ in range(STEPS):
        expected = sigmoid(intercept + slope * lengths)
        left, spread = wins - expected, expected * (1 - expected)
        pull = left.sum(1, keepdims=True) - RIDGE * intercept
        tilt = (left * lengths).sum(1, keepdims=True) - RIDGE * slope
        # The 2 x 2 system of each row, solved by hand: a call to LAPACK for each took most of the time.
        a = spread.sum(1, keepdims=True) + RIDGE
        b = (spread * lengths).sum(1, keepdims=True)
        d = (spread * lengths**2).sum(1, keepdims=True) + RIDGE
        steps = (d * pull - b * tilt) / (a * d - b * b), (a * tilt - b * pull) / (a * d - b * b)
        # Far from the optimum a full Newton step overshoots.
        intercept += numpy.clip(steps[0], -LARGEST_STEP, LARGEST_STEP)
        slope += numpy.clip(steps[1], -LARGEST_STEP, LARGEST_STEP)
        if max(numpy.abs(step).max() for step in steps) < CLOSE_ENOUGH:
            break
    return numpy.concatenate([intercept, slope], axis=1)


def sigmoid(logits: numpy.ndarray) -> numpy.ndarray:
    """Logits to probabilities, by tanh: no overflow."""
    import numpy

    return 0.5 * (1 + numpy.tanh(logits / 2))
