"""Small scripted runs: a recipe, its contexts, and what a run left on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfalign.constitution.check import examine
from selfalign.constitution.loading import constitution_hash
from selfalign.constitution.schema import Constitution
from selfalign.engines.scripted import ScriptedEngine
from selfalign.evaluation import in_run
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.runner import Runner
from selfalign.pipeline.stage import Context
from selfalign.recipe import Recipe, SamplingOptions
from selfalign.report.build import build_report
from tests.constitution.small import SMALL
from tests.support.scripts import answer

STORES = ("topics", "instructions", "responses", "elaborations")
PROMPTED = "base+principles"
VARIANTS = ("base", PROMPTED, "engraved", "final")


def small_constitution(text: str = SMALL) -> Constitution:
    constitution, faults = examine(text)
    assert constitution is not None, faults
    return constitution


def small_recipe(folder: Path, text: str = SMALL, **changes: Any) -> Recipe:
    """A scripted recipe of a few records a stage, its constitution written to `folder`."""
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    data: dict[str, Any] = {
        "constitution": str(file),
        "chunk_size": 4,
        "engine": {"kind": "scripted", "script": "tests.support.scripts:answer"},
        "topics": {"per_type": 3, "rounds": 2},
        "instructions": {"topic_guided": 6, "self_instruct": 6, "max_tokens": 64},
        "evaluate": {"held_out": 2},
        "engrave": {"validation_rows": 1},
    }
    for name, value in changes.items():
        data[name] = data[name] | value if isinstance(data.get(name), dict) else value
    return Recipe.model_validate(data)


def context(stage: str, options: SamplingOptions, constitution: Constitution | None = None) -> Context:
    """What the runner gives to a stage."""
    constitution = constitution or small_constitution()
    engine = ScriptedEngine(answer)
    chat_format = engine.chat_format(constitution.style("standard"))
    digest = constitution_hash(constitution)
    return Context(stage, Recipe(), constitution, digest, options, engine.describe(), chat_format)


def run(recipe: Recipe, path: Path, until: str = "report") -> RunDirectory:
    """Run or resume as the command does."""
    directory = RunDirectory(path)
    Runner(recipe, directory, build_report, in_run).run(until)
    return directory


def files(path: Path) -> dict[str, bytes]:
    """Every file of a directory: relative name -> content."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def data_files(path: Path) -> dict[str, bytes]:
    """The files of a run that must not depend on when and how often it was stopped: no clock is in them."""
    timed = {".lock", "run.json", "progress.json", "report.html", "logs/run.log"}
    return {name: content for name, content in files(path).items() if name not in timed}


def untimed_manifest(path: Path) -> dict[str, Any]:
    """The stages of the manifest without their seconds."""
    stages = json.loads((path / "run.json").read_text(encoding="utf-8"))["stages"]
    return {
        stage: {name: value for name, value in row.items() if name not in ("seconds", "engine_seconds")}
        for stage, row in stages.items()
    }


def keys(path: Path) -> list[str]:
    """The keys of every record of a run, accepted and rejected."""
    files = [*path.glob("*.jsonl"), *path.glob("rejected/*.jsonl"), *path.glob("evaluation/*.jsonl")]
    return [json.loads(line)["key"] for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
