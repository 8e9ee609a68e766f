"""The human-written lines of a run, the paper's way and all the rest."""

from __future__ import annotations

from typing import Any, NamedTuple


class Ledger(NamedTuple):
    """What the paper counts, and what it leaves out; (what, lines) each, with the sums."""

    paper: list[tuple[str, int]]
    paper_total: int
    beside: list[tuple[str, int]]
    beside_total: int


def ledger(manifest: dict[str, Any]) -> Ledger | None:
    """The manifest's ledger, or None where it has none yet."""
    entry = manifest.get("ledger")
    if not entry:
        return None
    paper, beside = ([(n, lines) for n, lines in entry.get(p, {}).items() if n != "total"] for p in ("paper", "beside"))
    totals = [sum(lines for _, lines in part) for part in (paper, beside)]
    return Ledger(paper, entry.get("paper", {}).get("total", totals[0]), beside, totals[1])
