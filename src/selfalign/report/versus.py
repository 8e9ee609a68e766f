"""Two runs held against each other: their settings, yields, principles, lengths, trainings, figures and answers.

The runs' items are different ones, so differences are of independent samples; `selfalign compare` pairs questions.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from selfalign.errors import UserError
from selfalign.evaluation.statistics import Interval, difference_of_shares
from selfalign.records import write_atomically
from selfalign.report.held_out import Variant, held_out
from selfalign.report.lengths import LengthReport, counted_lengths, distributions
from selfalign.report.measures import Measures, measures
from selfalign.report.page import render
from selfalign.report.read import RunFiles, base_name, read_run
from selfalign.report.stages import StageRow, stage_rows, total_row
from selfalign.report.training import TRAINING, finite, mean

MOST_POINTS = 240
MOST_SAMPLES = 10
NOT_SET = "–"


class Setting(NamedTuple):
    """An option that differs, by its dotted name."""

    name: str
    first: str
    second: str


class Share(NamedTuple):
    """How often something is so in each run, the difference with its interval, and whether that is more than noise.

    A share is None where the run has nothing to count; then there is no interval.
    """

    name: str
    first: float | None
    second: float | None
    interval: Interval | None

    @property
    def is_noise(self) -> bool:
        """Whether no difference at all is within the interval."""
        return self.interval is None or self.interval.low <= 0 <= self.interval.high


class Curves(NamedTuple):
    """The losses of one training of both runs, as polylines in one 100 x 100 box; empty where a run has none."""

    stage: str
    first: str
    second: str
    low: float
    high: float
    validation: tuple[float | None, float | None]


class Pair(NamedTuple):
    """The answers of both runs to one instruction."""

    instruction: str
    first: str
    second: str


def write_comparison(a: Path, b: Path, output: Path | None = None) -> Path:
    """Write the page and return its path: in the first run's folder where none is named."""
    if a.resolve() == b.resolve():
        raise UserError(f"{a} and {b} are one run", "name two runs: selfalign report runs/a runs/b")
    path = output or a / f"report-against-{b.resolve().name}.html"
    if path.is_dir():
        raise UserError(f"{path} is a directory", "name a file: --output comparison.html")
    write_atomically(path, render("versus.html.j2", sections(read_run(a), read_run(b))))
    return path


def sections(a: RunFiles, b: RunFiles) -> dict[str, Any]:
    """What the template shows, by name."""
    stages, figures = paired_stages(a, b), (measures(a), measures(b))
    names = (
        (a.name, b.name) if a.name != b.name else (f"{a.path.parent.name}/{a.name}", f"{b.path.parent.name}/{b.name}")
    )
    return {
        "names": names,
        "runs": (a, b),
        "settings": settings(a.recipe, b.recipe),
        "stages": stages,
        "totals": (total_row(stage_rows(a)), total_row(stage_rows(b))),
        "yields": [share for share in (yield_of(name, *pair) for name, pair in stages.items()) if share],
        "rejections": rejections(a, b),
        "principles": principles(a, b),
        "lengths": lengths(a, b),
        "trainings": [curves(name, a, b) for name in training_names(a, b)],
        "variants": variants(a, b),
        "measured": measured(*figures),
        "pairs_of_answers": answers_to_the_same(a, b),
    }


def settings(first: str, second: str) -> list[Setting]:
    """The recipe's options that differ, in the order of their names."""
    a, b = flat(yaml.safe_load(first) or {}), flat(yaml.safe_load(second) or {})
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    return [Setting(name, str(a.get(name, NOT_SET)), str(b.get(name, NOT_SET))) for name in names]


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted names."""
    rows: dict[str, Any] = {}
    for name, value in data.items():
        rows |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return rows


def paired_stages(a: RunFiles, b: RunFiles) -> dict[str, tuple[StageRow, StageRow]]:
    """Every stage of either run; one that a run does not have is pending."""
    first, second = ({row.name: row for row in stage_rows(run)} for run in (a, b))
    nothing = {name: StageRow(name, "pending") for name in {**first, **second}}
    return {name: (first.get(name, row), second.get(name, row)) for name, row in nothing.items()}


def yield_of(name: str, first: StageRow, second: StageRow) -> Share | None:
    """The accepted share of a stage that both have judged candidates in."""
    if first.share is None or second.share is None:
        return None
    return share_of(name, *((row.accepted or 0, (row.accepted or 0) + (row.rejected or 0)) for row in (first, second)))


def share_of(name: str, first: tuple[int, int], second: tuple[int, int]) -> Share:
    """Of (so many, of so many) in each run."""
    (a, n), (b, m) = first, second
    interval = difference_of_shares(a, n, b, m) if n and m else None
    return Share(name, a / n if n else None, b / m if m else None, interval)


def rejections(a: RunFiles, b: RunFiles) -> dict[str, list[Share]]:
    """Stage -> every filter's share of what was judged, in each run."""
    found = {}
    for name, (first, second) in paired_stages(a, b).items():
        judged = [(row.accepted or 0) + (row.rejected or 0) for row in (first, second)]
        filters = [Counter(run.stage(name).get("rejected") or {}) for run in (a, b)]
        names = sorted({*filters[0], *filters[1]}, key=lambda filter: (-(filters[0] + filters[1])[filter], filter))
        if names:
            found[name] = [
                share_of(filter, *((rejected[filter], of) for rejected, of in zip(filters, judged, strict=True)))
                for filter in names
            ]
    return found


def principles(a: RunFiles, b: RunFiles) -> list[Share]:
    """Every principle's share of the accepted responses, in each run."""
    cited, responses = [], []
    for run in (a, b):
        records = [set(record.principles) for record in run.accepted(run.kept_responses)]
        cited.append(Counter(number for numbers in records for number in numbers))
        responses.append(len(records))
    names: dict[int, str] = {}
    for run in (b, a):
        names |= run.constitution.principle_names if run.constitution else {}
    numbers = sorted({*names, *cited[0], *cited[1]})
    pairs = [list(zip((counts[number] for counts in cited), responses, strict=True)) for number in numbers]
    return (
        [share_of(f"{number} {names.get(number, '?')}", *pair) for number, pair in zip(numbers, pairs, strict=True)]
        if any(responses)
        else []
    )


def lengths(a: RunFiles, b: RunFiles) -> LengthReport | None:
    """The distributions of both over one axis, one after the other."""
    first, second = counted_lengths(a), counted_lengths(b)
    both: dict[str, Counter[int]] = {}
    for name in {**first, **second}:
        both |= {f"{name}, {run}": counts[name] for run, counts in (("A", first), ("B", second)) if counts.get(name)}
    return distributions(both) if both else None


def training_names(a: RunFiles, b: RunFiles) -> list[str]:
    """The trainings that either run has figures of."""
    names = [name for run in (a, b) for name in run.stage_names if base_name(name) in TRAINING]
    return [name for name in dict.fromkeys(names) if any(run.stage(name).get("training") for run in (a, b))]


def curves(stage: str, a: RunFiles, b: RunFiles) -> Curves:
    """Both losses over the same height; each over its own steps, from its first to its last."""
    figures = [run.stage(stage).get("training") or {} for run in (a, b)]
    smooth = [smoothed(finite(entry.get("losses") or ())) for entry in figures]
    values = [loss for losses in smooth for loss in losses] or [0.0]
    low, high = min(values), max(values)
    points = [polyline(losses, low, high) for losses in smooth]
    ends = [entry.get("validation_loss") for entry in figures]
    return Curves(stage, points[0], points[1], low, high, (ends[0], ends[1]))


def smoothed(losses: list[float]) -> list[float]:
    """Means of as many losses as leave `MOST_POINTS`."""
    size = -(-len(losses) // MOST_POINTS) or 1
    return [mean(losses[start : start + size]) for start in range(0, len(losses), size)]


def polyline(losses: list[float], low: float, high: float) -> str:
    """Points in a 100 x 100 box, y downwards."""
    span, last = high - low or 1.0, max(len(losses) - 1, 1)
    return " ".join(f"{100 * i / last:.2f},{100 - 100 * (loss - low) / span:.2f}" for i, loss in enumerate(losses))


def variants(a: RunFiles, b: RunFiles) -> list[tuple[Variant | None, Variant | None]]:
    """The held-out figures of each variant in both runs."""
    first, second = held_out(a), held_out(b)
    names = {variant.name: None for found in (first, second) if found for variant in found.variants}
    return [tuple(found.variant(name) if found else None for found in (first, second)) for name in names]  # type: ignore[misc]


def measured(first: Measures | None, second: Measures | None) -> list[tuple[str, str, Any, Any]]:
    """(measure, subject, cell of A, cell of B) for what both were measured in."""
    if first is None or second is None:
        return []
    theirs = {
        (row.name, name): cell for row in second.rows for name, cell in zip(second.subjects, row.cells, strict=True)
    }
    rows = [(row.name, name, cell) for row in first.rows for name, cell in zip(first.subjects, row.cells, strict=True)]
    return [(row, name, cell, theirs[row, name]) for row, name, cell in rows if cell and theirs.get((row, name))]


def answers_to_the_same(a: RunFiles, b: RunFiles) -> list[Pair]:
    """Responses to instructions that stand in both runs, word for word; those with the lowest hashes."""
    ours = {record.user: record.assistant for record in a.accepted(a.kept_responses)}
    found = ((record.user, record.assistant) for record in b.accepted(b.kept_responses) if record.user in ours)
    drawn = heapq.nsmallest(MOST_SAMPLES, found, key=lambda pair: zlib.crc32(pair[0].encode(errors="replace")))
    return [Pair(instruction, ours[instruction], answer) for instruction, answer in drawn]
