"""A run directory as the report sees it. Only reads: the run may be going on meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfalign.constitution.schema import Constitution
from selfalign.errors import UserError
from selfalign.records import Record

STAGES = ("topics", "instructions", "responses", "engrave", "elaborations", "clone", "evaluate")


def base_name(stage: str) -> str:
    """`responses` of `responses-2`: the stage that a further round repeats."""
    return stage.partition("-")[0]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run wrote so far; `constitution`, `held_out`, `comparison` None and `recipe` empty where not there yet.

    `is_running` is False where no process is at work on it, whatever the manifest says: it was stopped or killed.
    """

    path: Path
    manifest: dict[str, Any]
    constitution: Constitution | None
    recipe: str
    held_out: dict[str, Any] | None
    comparison: dict[str, Any] | None = None
    is_running: bool = True

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def stage_names(self) -> list[str]:
        """All stages but the report itself: those of one round where the manifest has none yet."""
        return [name for name in self.manifest.get("stages", {}) or STAGES if name != "report"]

    @property
    def kept_responses(self) -> str:
        """The stage whose responses the engraved model learnt: those of the kept round."""
        kept = self.manifest.get("rounds", {}).get("kept", 1)
        return "responses" if kept == 1 else f"responses-{kept}"

    def stage(self, name: str) -> dict[str, Any]:
        """The manifest's entry of a stage; empty where the stage is unknown to it."""
        entry: dict[str, Any] = self.manifest.get("stages", {}).get(name) or {}
        is_stopped = entry.get("state") == "running" and not self.is_running
        return entry | {"state": "stopped"} if is_stopped else entry

    def accepted(self, stage: str) -> Iterator[Record]:
        """The accepted records of a stage, in the order written."""
        return read_whole_records(self.path / f"{stage}.jsonl")

    def rejected(self, stage: str) -> Iterator[Record]:
        """The rejected records of a stage, in the order written."""
        return read_whole_records(self.path / "rejected" / f"{stage}.jsonl")


def read_run(run: Path, is_running: bool = True) -> RunFiles:
    """Read all of a run but its records. Raises UserError where `run` is no run, or a file of it is broken."""
    if not (run / "run.json").is_file():
        raise UserError(f"{run} is not a run: it has no run.json", f"selfalign run RECIPE --out {run}")
    held_out, comparison = (run / "evaluation" / f"{name}.json" for name in ("held_out", "comparison"))
    recipe = run / "recipe.yaml"
    return RunFiles(
        path=run.resolve(),
        manifest=read_json(run / "run.json"),
        constitution=read_constitution(run / "constitution.yaml"),
        recipe=recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else "",
        held_out=read_json(held_out) if held_out.is_file() else None,
        comparison=read_json(comparison) if comparison.is_file() else None,
        is_running=is_running,
    )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise UserError(f"{path} is not JSON: {fault}", "restore the file from a backup") from fault
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, not {type(value).__name__}", "restore the file from a backup")
    return value


def read_constitution(path: Path) -> Constitution | None:
    """The resolved constitution of the run, or None where it is not written yet."""
    if not path.is_file():
        return None
    try:
        return Constitution.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as fault:
        raise UserError(f"{path} is not a resolved constitution: {' '.join(str(fault).split())}") from fault


def read_whole_records(path: Path) -> Iterator[Record]:
    """The records of a file; none where it is absent.

    Unlike `records.read_records`, what stands after the last newline is left out and left alone: a run that is going
    on may be writing it at this moment.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield Record.from_json(line.decode())
            except (ValueError, TypeError, KeyError) as fault:
                message = f"{path}:{number} is not a record: {fault}"
                raise UserError(message, "restore the file from a backup") from fault


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file's lines, as data sets have them; none where it is absent, and no torn last line."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as fault:
                raise UserError(f"{path}:{number} is not JSON: {fault}", "restore the file from a backup") from fault
            if isinstance(row, dict):
                yield row


def read_setting(recipe: str, section: str, name: str, default: Any) -> Any:
    """A setting of the run's recipe, or the default where the recipe cannot be read or has none."""
    try:
        return yaml.safe_load(recipe)[section][name]
    except (yaml.YAMLError, KeyError, TypeError):
        return default
