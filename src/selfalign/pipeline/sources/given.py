"""The instructions of all sources of a run, read once and kept in RUN/sources.jsonl.

A resumed run reads that file and not the sources, which may have moved or changed since.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from selfalign.errors import UserError
from selfalign.pipeline.progress import say
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.sources.rows import rows_of
from selfalign.pipeline.sources.taking import Given, Taken, take
from selfalign.recipe import Recipe, SourceOptions
from selfalign.records import content_hash, write_atomically

FILE = "sources.jsonl"


def given_instructions(run: RunDirectory, recipe: Recipe) -> list[Given]:
    """What the recipe's sources give. The manifest says what was taken of each, and what was passed over."""
    sources = recipe.instructions.sources
    if not sources:
        return []
    settings = content_hash([[source.model_dump(mode="json") for source in sources], recipe.seed])
    before = run.manifest.get("sources") or {}
    path = run.path / FILE
    if before.get("settings") == settings and path.is_file():
        return read_given(path, before["content"])
    taken = take_all(sources, recipe.seed)
    text = "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for part in taken for row in part.instructions)
    content = content_hash(text)
    if before.get("settings") == settings and before["content"] != content and run.has_data("instructions"):
        raise UserError(
            f"{path} is gone, and the sources now give other instructions than those that {run.path} was begun with",
            f"restore {path} from a backup, or start another run: --out {run.path}-2",
        )
    write_atomically(path, text)
    rows = [part.to_dict(source) for part, source in zip(taken, sources, strict=True)]
    run.manifest["sources"] = {"settings": settings, "content": content, "sources": rows}
    run.save()
    return [row for part in taken for row in part.instructions]


def take_all(sources: Sequence[SourceOptions], seed: int) -> list[Taken]:
    """Every source in turn: what an earlier one has, a later one does not give again."""
    known: set[bytes] = set()
    taken = []
    for source in sources:
        part = take(source, rows_of(source), seed, known)
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in part.passed_over.items())
        passed = f"; passed over {reasons}" if reasons else ""
        fault = f" (first {part.first_fault})" if part.first_fault else ""
        say(f"source {source.path}: {len(part.instructions):,} of {part.rows:,} rows taken{passed}{fault}")
        taken.append(part)
    return taken


def read_given(path: Path, content: str) -> list[Given]:
    """The instructions of a run that was begun before. UserError where the file is not what was written."""
    text = path.read_bytes().decode("utf-8", "replace")
    if content_hash(text) != content:
        raise UserError(f"{path} was changed since the run began", "restore the file from a backup")
    return [Given(**json.loads(line)) for line in text.split("\n")[:-1]]
