"""The human-written lines of a run, the paper's way and all the rest."""

from __future__ import annotations

from typing import Any, NamedTuple


class Ledger(NamedTuple):
    """What the paper counts, and what it leaves out; (what, how many) each. `all_lines` are the lines of all text."""

    paper: list[tuple[str, int]]
    paper_total: int
    beside: list[tuple[str, int]]
    all_lines: int


def ledger(manifest: dict[str, Any]) -> Ledger | None:
    """The manifest's ledger, or None where it has none yet."""
    entry = manifest.get("ledger")
    if not entry:
        return None
    paper, beside = ([(n, lines) for n, lines in entry.get(p, {}).items() if n != "total"] for p in ("paper", "beside"))
    total = entry.get("paper", {}).get("total", sum(lines for _, lines in paper))
    return Ledger(paper, total, beside, dict(beside).get("non-blank lines of all text", 0))
