"""What every stage's model came to in each measure, with intervals, and what of the differences is more than noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from selfalign.evaluation.comparison_table import p_text, signed, span
from selfalign.evaluation.table import figure
from selfalign.report.read import RunFiles


class Change(NamedTuple):
    """A difference in words; `verdict` is `higher`, `lower` or `within noise`."""

    text: str
    verdict: str


class Strip(NamedTuple):
    """Where a value and its interval stand between the row's ends, 0 to 100."""

    low: float
    middle: float
    high: float


class Cell(NamedTuple):
    """One subject in one measure; `changes` against the baselines."""

    value: str
    interval: str
    n: str
    changes: list[Change]
    strip: Strip


class MeasureRow(NamedTuple):
    """One measure; a subject that was not measured has None. `chance` and `prompt_format` may be empty.

    `scale` names the ends that the strips are drawn between.
    """

    name: str
    chance: str
    prompt_format: str
    cells: list[Cell | None]
    scale: str


class Measures(NamedTuple):
    """The table, and over how many differences its p-values are adjusted."""

    subjects: list[str]
    rows: list[MeasureRow]
    differences: int


def measures(run: RunFiles) -> Measures | None:
    """None where the stage has not measured anything yet."""
    rows = (run.comparison or {}).get("rows", [])
    subjects = list(dict.fromkeys(name for row in rows for name in row["subjects"]))
    count = sum(len(row["differences"]) for row in rows)
    return Measures(subjects, [measure_row(row, subjects) for row in rows], count) if rows else None


def measure_row(row: Mapping[str, Any], subjects: list[str]) -> MeasureRow:
    """From the file's entry."""
    found = next(iter(row["subjects"].values()))
    chance = f"chance {figure(found['chance'])}" if found["chance"] is not None else ""
    ends = ends_of(row)
    cells = [cell(row, name, ends) for name in subjects]
    return MeasureRow(row["measure"], chance, found["prompt_format"], cells, f"{ends[0]:.3g} to {ends[1]:.3g}")


def ends_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """What a row's strips are drawn between: 0 and 1 where all is within, else 0 (or less) and the highest end."""
    intervals = [found["interval"] for found in row["subjects"].values() if found["value"] is not None]
    low = min((interval[0] for interval in intervals), default=0.0)
    high = max((interval[1] for interval in intervals), default=1.0)
    return min(0.0, low), high if high > 1 else 1.0


def strip(value: float, interval: tuple[float, float], ends: tuple[float, float]) -> Strip:
    """Scaled to the row's ends."""
    low, middle, high = (100 * (at - ends[0]) / (ends[1] - ends[0]) for at in (interval[0], value, interval[1]))
    return Strip(low, middle, high)


def cell(row: Mapping[str, Any], subject: str, ends: tuple[float, float]) -> Cell | None:
    """A subject's figure and its differences; None where nothing could be judged."""
    found = row["subjects"].get(subject)
    if not found or found["value"] is None:
        return None
    unjudged = f", {found['unjudged']} not judged" if found["unjudged"] else ""
    changes = [change(entry) for entry in row["differences"] if entry["subject"] == subject]
    drawn = strip(found["value"], found["interval"], ends)
    return Cell(figure(found["value"]), span(found["interval"]), f"n {found['n']}{unjudged}", changes, drawn)


def change(entry: Mapping[str, Any]) -> Change:
    """`+0.350 on base, p < 0.001`; within noise said as such."""
    p_value = p_text(entry["p_holm"])
    (difference,) = signed(entry["difference"])
    words = f"{difference} on {entry['baseline']}, p {p_value}"
    if entry["within_noise"]:
        return Change(words, "within noise")
    return Change(words, "higher" if entry["difference"] > 0 else "lower")
