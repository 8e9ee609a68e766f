"""selfalign status RUN."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfalign.pipeline.manifest import StageState

HALTED = ("stopped", "interrupted", "failed")
HEAD = ("stage", "state", "accepted", "rejected", "yield", "prompt tokens", "new tokens", "seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign status`."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def main(options: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    from selfalign.pipeline import decontaminate
    from selfalign.pipeline.board import read_progress
    from selfalign.pipeline.run_directory import open_run
    from selfalign.training.gate import in_words

    run = open_run(Path(options.run))
    progress = read_progress(run.path)
    if options.json:
        rounds = {"rounds": run.manifest["rounds"]} if "rounds" in run.manifest else {}
        told = {"progress": progress} if progress else {}
        stages = {name: state.to_dict() for name, state in run.stages.items()}
        print(json.dumps({"stages": stages} | rounds | told, indent=1))
        return 0
    halted = progress["state"] if progress and progress["state"] in HALTED else "running"
    print(table([HEAD, *(row(name, state, halted) for name, state in run.stages.items())]))
    for name, state in run.stages.items():
        if state.rejected:
            counts = ", ".join(f"{filter} {count}" for filter, count in state.rejected.items())
            print(f"\nrejected in {name}: {counts}")
        if state.decontamination:
            print(f"\ndecontamination of {name}: {decontaminate.in_words(state.decontamination)}")
        if state.gate:
            print(f"\ngate of {name} {in_words(state.gate)}")
        if state.note:
            print(f"\n{name} skipped: {state.note}")
        if state.failure:
            print(f"\n{name} failed: {state.failure}")
    if progress:
        print(f"\n{progress_lines(progress)}")
    if "rounds" in run.manifest:
        print(f"\n{rounds_line(run.manifest['rounds'])}")
    if compared := comparison(run.path):
        print(f"\n{compared}")
    return 0


def comparison(run: Path) -> str:
    """The figures of all variants, where the run has come so far."""
    from selfalign.evaluation.comparison_table import matrix

    path = run / "evaluation" / "comparison.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return matrix(rows) if rows else ""


def progress_lines(progress: dict[str, Any]) -> str:
    """What the run is at, and what it cost so far."""
    from selfalign.pipeline.cost import in_words, span
    from selfalign.records import Tokens

    spent = in_words(Tokens(**progress["tokens"]), progress["cost"], progress["currency"] or "")
    lines = [f"in all {span(progress['seconds'])}, {spent}"]
    if progress["state"] != "done":
        lines.append(f"{progress['state']} in {progress['stage']}, as of {progress['updated']}")
    if (now := progress["now"]) and progress["state"] == "running":
        counted = f"{now['name']}: {now['done']:,} of {now['goal']:,} {now['unit']}s"
        rate = f", {now['per_second']:.3g} {now['unit']}s/s" if now["per_second"] else ""
        left = f", {span(now['seconds_left'])} left" if now["seconds_left"] is not None else ""
        lines.append(counted + rate + left)
    return "\n".join(lines)


def rounds_line(rounds: dict[str, Any]) -> str:
    """Which round is kept, and why there is none after it."""
    line = f"round {rounds['kept']} of {len(rounds.get('figures', []))} is kept: models/engraved is its model"
    return f"{line}; {rounds['stopped']}" if rounds.get("stopped") else line


def row(name: str, state: StageState, running: str) -> tuple[str, ...]:
    """The cells of a stage, in the order of `HEAD`; a stage that judged nothing has no counts.

    `running` is what became of a stage that the manifest calls running: a killed process could not correct it.
    """
    counts = ("", "", "")
    if state.judged:
        rejected = sum(state.rejected.values())
        counts = (f"{state.accepted:,}", f"{rejected:,}", f"{state.accepted / state.judged:.0%}")
    tokens = (f"{state.tokens.prompt:,}", f"{state.tokens.completion:,}")
    return (name, running if state.state == "running" else state.state, *counts, *tokens, f"{state.seconds:.1f}")


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns of equal width: two of words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for cells in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
        padded += [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
