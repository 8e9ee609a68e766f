"""A comparison as tables for the eye, from its rows as `comparison.json` and `selfalign compare --output` hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selfalign.evaluation.comparison import BASE
from selfalign.evaluation.table import figure

Row = Mapping[str, Any]

FIGURES = ("measure", "subject", "value", "95 % interval", "n", "unjudged", "chance")
DIFFERENCES = ("measure", "subject", "against", "difference", "95 % interval", "n", "p", "p (Holm)", "")

NOISE = "within noise"
MARK = " *"


def comparison_table(rows: Sequence[Row]) -> str:
    """All figures, all differences, and what has to be known to read them."""
    figures = [figure_cells(row["measure"], name, found) for row in rows for name, found in row["subjects"].items()]
    changes = [change_cells(row["measure"], change) for row in rows for change in row["differences"]]
    parts = [aligned([FIGURES, *figures])]
    if changes:
        parts += [aligned([DIFFERENCES, *changes]), reading(len(changes))]
    return "\n\n".join([*parts, *prompt_formats(rows), *warnings(rows)])


def matrix(rows: Sequence[Row]) -> str:
    """A measure a line and a subject a column: what fits into a status."""
    subjects = list(dict.fromkeys(name for row in rows for name in row["subjects"]))
    lines = [
        ("measure", *subjects),
        *((row["measure"], *(matrix_cell(row, name) for name in subjects)) for row in rows),
    ]
    return f"{aligned(lines)}\n{MARK.strip()} differs from {BASE} beyond noise (paired, p below 0.05 by Holm's method)"


def matrix_cell(row: Row, subject: str) -> str:
    """`0.925 (0.801 to 0.974) *`."""
    found = row["subjects"].get(subject)
    if not found or found["value"] is None:
        return "-"
    differs = any(
        change["subject"] == subject and change["baseline"] == BASE and not change["within_noise"]
        for change in row["differences"]
    )
    return f"{figure(found['value'])} ({span(found['interval'])}){MARK * differs}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; a measure is named once."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines, last = [], ""
    for row in rows:
        shown = ["" if row[0] == last else row[0], *row[1:]]
        last = row[0]
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(shown, widths, strict=True)).rstrip())
    return "\n".join(lines)


def figure_cells(measure: str, subject: str, found: Row) -> tuple[str, ...]:
    """A figure's texts."""
    unit = found["unit"]
    value = figure(found["value"]) + (f" {unit}" if unit != "share" and found["value"] is not None else "")
    interval = span(found["interval"]) if found["interval"] else "-"
    return measure, subject, value, interval, str(found["n"]), str(found["unjudged"]), figure(found["chance"])


def change_cells(measure: str, change: Row) -> tuple[str, ...]:
    """A difference's texts."""
    difference, low, high = signed(change["difference"], *change["interval"])
    interval = f"{low} to {high}"
    p_values = (p_text(change["p_value"]), p_text(change["p_holm"]))
    return (
        measure,
        change["subject"],
        change["baseline"],
        difference,
        interval,
        str(change["n"]),
        *p_values,
        word(change),
    )


def word(change: Row) -> str:
    """What a difference comes to."""
    if change["within_noise"]:
        return NOISE
    return "higher" if change["difference"] > 0 else "lower"


def span(interval: Sequence[float]) -> str:
    """`0.120 to 0.340`."""
    return " to ".join(map(figure, interval))


def signed(*values: float) -> list[str]:
    """`+0.120`, in as many decimals as the largest of them needs."""
    digits = 3 if max(map(abs, values)) < 10 else 1
    return [f"{value:+.{digits}f}" for value in values]


def p_text(value: float) -> str:
    """Three decimals, and never 0."""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def reading(count: int) -> str:
    """What the differences are."""
    return (
        "differences are question by question: p by McNemar's exact test where values are 0 or 1, else by a paired "
        f"bootstrap; adjusted by Holm's method over the {count} differences shown; {NOISE}: adjusted p of 0.05 or more"
    )


def prompt_formats(rows: Sequence[Row]) -> list[str]:
    """Which prompt format each measure was taken under, in one line."""
    by_format: dict[str, dict[str, None]] = {}
    for row in rows:
        for found in row["subjects"].values():
            if found["prompt_format"]:
                by_format.setdefault(found["prompt_format"], {})[row["measure"]] = None
    told = "; ".join(f"{name} for {', '.join(measures)}" for name, measures in by_format.items())
    return [f"prompt formats: {told}"] if told else []


def warnings(rows: Sequence[Row]) -> Iterator[str]:
    """What must be known of a measure, once for all subjects that it is true of."""
    for row in rows:
        found: dict[str, list[str]] = {}
        for name, figures in row["subjects"].items():
            if warning := figures.get("warning"):
                found.setdefault(warning, []).append(name)
        yield from (f"{row['measure']} ({', '.join(names)}): {warning}" for warning, names in found.items())
