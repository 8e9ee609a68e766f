"""The comparison as a table for the eye."""

from __future__ import annotations

from typing import Any

from benchmarks.engines.table import table

COLUMNS = ("server", "users", "tokens/s", "repeats", "first p50 ms", "first p95 ms", "gap p95 ms", "errors")
TARGET = 0.85
"""Of the offline rate, at 16 users."""


def comparison(result: dict[str, Any]) -> str:
    """A row a server and crowd, what our rate is against each other's, and what was left out."""
    lines = [table(COLUMNS, [cells(row) for row in result["rows"]]), ""]
    lines += [verdict(name, found["median"]) for name, found in result["ratios_at_16"].items()]
    lines += [f"{name}: {found['skipped']}" for name, found in result["servers"].items() if "skipped" in found]
    return "\n".join(lines)


def cells(row: dict[str, Any]) -> list[object]:
    """One line."""
    rates = ", ".join("none" if rate is None else str(round(rate)) for rate in row["rates"])
    rate = row.get("tokens_per_second")
    times = [row.get(name) for name in ("first_p50", "first_p95", "gap_p95")]
    shown = ["" if seconds is None else str(round(seconds * 1000)) for seconds in times]
    return [row["name"], row["users"], "none" if rate is None else round(rate), rates, *shown, row["errors"]]


def verdict(name: str, ratio: float) -> str:
    """Our rate at 16 users against another's; the median of the repeats."""
    target = f" (to reach: {TARGET})" if "offline" in name else " (to reach: above 1)"
    return f"at 16 users: {ratio:.2f} times {name}{target}"
