"""From answers to figures: tokens/s in all, time to the first token, gaps between tokens, faults."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from benchmarks.serving.client import Answer


def level(users: int, answers: Sequence[Answer]) -> dict[str, Any]:
    """The figures of one crowd, times in seconds. Those with a fault count as nothing but faults."""
    good = [answer for answer in answers if not answer.error]
    faults = sorted({answer.error for answer in answers if answer.error})
    found = {"users": users, "requests": len(answers), "errors": len(answers) - len(good)}
    if faults:
        found["faults"] = faults[:3]
    if not good:
        return found
    seconds = max(answer.ended for answer in answers) - min(answer.began for answer in answers)
    tokens = sum(answer.tokens for answer in good)
    first = [answer.pieces[0] - answer.began for answer in good if answer.pieces]
    return found | {
        "prompt_tokens_mean": round(statistics.mean(answer.prompt_tokens for answer in good), 1),
        "tokens": tokens,
        "tokens_mean": round(tokens / len(good), 1),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 2),
        "first_p50": round(percentile(first, 50), 4),
        "first_p95": round(percentile(first, 95), 4),
        "gap_p95": round(percentile(gaps(good), 95), 4),
    }


def gaps(answers: Sequence[Answer]) -> list[float]:
    """Seconds between neighbouring pieces of the same answer."""
    return [after - before for answer in answers for before, after in pairwise(answer.pieces)]


def percentile(values: Sequence[float], percent: int) -> float:
    """Between the two values next to it, as numpy has it; 0 where there is no value."""
    if len(values) < 2:
        return next(iter(values), 0.0)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def middle(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The repeat with the median rate (the lower of two), with the errors of all; without a rate, the first."""
    rated = sorted((one for one in repeats if "tokens_per_second" in one), key=lambda one: one["tokens_per_second"])
    if not rated:
        return dict(repeats[0])
    return rated[(len(rated) - 1) // 2] | {"errors": sum(one["errors"] for one in repeats)}


def ratios(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> list[float]:
    """Our rate over theirs, repeat by repeat: neighbours in time met the same machine."""
    pairs = zip(ours, theirs, strict=False)
    return [
        round(one["tokens_per_second"] / other["tokens_per_second"], 3)
        for one, other in pairs
        if one.get("tokens_per_second") and other.get("tokens_per_second")
    ]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The rise of a straight line through the points, by least squares; 0 through fewer than two."""
    return statistics.linear_regression(times, values).slope if len(set(times)) > 1 else 0.0
