"""How long the texts of each stage are, in words, drawn over one axis that doubles from step to step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from selfalign.records import Record
from selfalign.report.read import RunFiles

STEPS_PER_DOUBLING = 2
WIDTH, HEIGHT = 100.0, 100.0


class Lengths(NamedTuple):
    """One distribution: quantiles in words, and its outline as SVG points in a 100 x 100 box, y downwards.

    `median_x` is where the median stands in the box.
    """

    name: str
    texts: int
    low: int
    median: int
    high: int
    longest: int
    points: str
    median_x: float


class LengthReport(NamedTuple):
    """All distributions, and the axis: (place, words)."""

    rows: list[Lengths]
    axis: list[tuple[float, int]]


TEXTS: list[tuple[str, str, Callable[[Record], str]]] = [
    ("instructions", "instructions", lambda record: record.user),
    ("internal thoughts", "responses", lambda record: record.thought),
    ("responses", "responses", lambda record: record.assistant),
    ("elaborations", "elaborations", lambda record: record.assistant),
]
"""Name, stage, and the text of a record."""


def lengths(run: RunFiles) -> LengthReport | None:
    """None before there is any text."""
    counted = counted_lengths(run)
    return distributions(counted) if counted else None


def counted_lengths(run: RunFiles) -> dict[str, Counter[int]]:
    """What has text -> how many texts have each number of words."""
    counted = {name: Counter[int]() for name, _, _ in TEXTS}
    for stage in dict.fromkeys(stage for _, stage, _ in TEXTS):
        texts = [(name, text) for name, of, text in TEXTS if of == stage]
        for record in run.accepted(run.kept_responses if stage == "responses" else stage):
            for name, text in texts:
                words = len(text(record).split())
                if words:
                    counted[name][words] += 1
    return {name: counts for name, counts in counted.items() if counts}


def distributions(counted: dict[str, Counter[int]]) -> LengthReport:
    """Outlines and quantiles over the axis that fits them all."""
    steps = math.ceil(STEPS_PER_DOUBLING * math.log2(max(max(counts) for counts in counted.values()) + 1))
    rows = [distribution(name, counts, steps) for name, counts in counted.items()]
    axis = [(place(2**power, steps), 2**power) for power in range(steps // STEPS_PER_DOUBLING + 1)]
    return LengthReport(rows, axis)


def distribution(name: str, counts: Counter[int], steps: int) -> Lengths:
    """One row; the outline's height is the share of texts in each step, scaled to the largest."""
    heights = [0.0] * steps
    for words, number in counts.items():
        heights[min(steps - 1, int(STEPS_PER_DOUBLING * math.log2(words)))] += number
    top = max(heights)
    low, median, high = (quantile(counts, share) for share in (0.1, 0.5, 0.9))
    return Lengths(
        name,
        counts.total(),
        low,
        median,
        high,
        max(counts),
        outline([height / top for height in heights]),
        place(median, steps),
    )


def place(words: int, steps: int) -> float:
    """Where a number of words stands on the axis."""
    return round(WIDTH * STEPS_PER_DOUBLING * math.log2(words) / steps, 2)


def outline(heights: list[float]) -> str:
    """The points around the bars of a histogram, closed along its foot."""
    step = WIDTH / len(heights)
    points = [f"0,{HEIGHT:g}"]
    for number, height in enumerate(heights):
        y = HEIGHT - HEIGHT * height
        points += [f"{number * step:.2f},{y:.1f}", f"{(number + 1) * step:.2f},{y:.1f}"]
    return " ".join([*points, f"{WIDTH:g},{HEIGHT:g}"])


def quantile(counts: Counter[int], share: float) -> int:
    """The least number of words that at least that share of the texts does not exceed."""
    wanted, seen = share * counts.total(), 0
    for words in sorted(counts):
        seen += counts[words]
        if seen >= wanted:
            break
    return words
