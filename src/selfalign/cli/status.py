"""selfalign status RUN."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign status`."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def main(options: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    from selfalign.pipeline.run_directory import open_run

    run = open_run(Path(options.run))
    if options.json:
        print(json.dumps({"stages": {name: state.to_dict() for name, state in run.stages.items()}}, indent=1))
        return 0
    rows = [("stage", "state", "accepted", "rejected", "yield", "prompt tokens", "new tokens", "seconds")]
    for name, state in run.stages.items():
        share = f"{state.accepted / state.judged:.0%}" if state.judged else ""
        tokens = state.tokens
        numbers = (state.accepted, sum(state.rejected.values()))
        cells = tuple(f"{number:,}" if state.judged else "" for number in numbers)
        rows.append((name, state.state, *cells, share, f"{tokens.prompt:,}", f"{tokens.completion:,}", f"{state.seconds:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())
    for name, state in run.stages.items():
        if state.rejected:
            print(f"\nrejected in {name}: " + ", ".join(f"{filter} {count}" for filter, count in state.rejected.items()))
        if state.failure:
            print(f"\n{name} failed: {state.failure}")
    return 0
