"""The run directory: manifest, resolved inputs, record stores, and the lock that keeps two writers apart."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from selfalign.constitution.ledger import ledger
from selfalign.constitution.loading import constitution_hash, to_yaml
from selfalign.constitution.schema import Constitution
from selfalign.errors import UserError
from selfalign.pipeline.manifest import STAGES, StageName, StageState, stage_names
from selfalign.pipeline.provenance import machine, versions
from selfalign.pipeline.settings import flatten, stages_after
from selfalign.recipe import Recipe, load_recipe
from selfalign.record_store import RecordFile, RecordStore
from selfalign.records import Record, write_atomically


class RunDirectory:
    """Reads and writes everything under RUN but models and datasets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stages = {name: StageState() for name in STAGES}
        self.manifest: dict[str, Any] = {}
        if self.manifest_path.exists():
            self._load()

    @property
    def manifest_path(self) -> Path:
        """run.json."""
        return self.path / "run.json"

    def _load(self) -> None:
        try:
            self.manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
            rows = self.manifest["stages"]
            self._arrange(max(StageName.of(name).round for name in (*rows, *STAGES)))
            self.stages |= {name: StageState.from_dict(row) for name, row in rows.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise UserError(f"{self.manifest_path} is not a manifest: {fault}", "name another run directory") from fault

    def _arrange(self, rounds: int) -> None:
        """Have the stages of so many rounds, in order."""
        self.stages = {name: self.stages.get(name, StageState()) for name in stage_names(rounds)}

    def save(self) -> None:
        """Write the manifest: what it says is done stands on disk already."""
        self.manifest["stages"] = {name: state.to_dict() for name, state in self.stages.items()}
        write_atomically(self.manifest_path, json.dumps(self.manifest, indent=1, ensure_ascii=False) + "\n")

    def prepare(self, recipe: Recipe, constitution: Constitution) -> None:
        """Adopt the inputs of this run: a new one writes them down, an old one must not mix data."""
        digest = constitution_hash(constitution)
        if self.manifest:
            self._refuse_changes(recipe, digest)
        if stage_names(recipe.rounds.count) != tuple(self.stages):
            self._arrange(recipe.rounds.count)
            self.stages["report"] = StageState()  # it lists the rounds
        self.manifest |= {
            "selfalign": importlib.metadata.version("selfalign"),
            "created": self.manifest.get("created", datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")),
            "machine": machine(),
            "versions": versions(),
            "base_model": recipe.base_model,
            "constitution": {"name": constitution.name, "hash": digest},
            "ledger": ledger(constitution).to_dict(),
        }
        settings = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        self.save()  # first here: a directory without a manifest is no run, and would be refused after a kill
        write_atomically(self.path / "constitution.yaml", to_yaml(constitution))
        write_atomically(self.path / "recipe.yaml", settings)

    def check(self, recipe: Recipe, constitution: Constitution) -> None:
        """Raise what a run of this recipe would be refused for here. Nothing is written."""
        if self.path.is_dir():
            self._refuse_foreign()
        if self.manifest:
            self._refuse_changes(recipe, constitution_hash(constitution))

    def _refuse_changes(self, recipe: Recipe, digest: str) -> None:
        if not any(map(self.has_data, self.stages)):
            return
        old, new = flatten(load_recipe(self.path / "recipe.yaml")), flatten(recipe)
        changed = [name for name in new if new[name] != old.get(name) and name != "constitution"]
        if self.manifest["constitution"]["hash"] != digest:  # what it says counts, not where it lies
            changed.append("constitution")
        for name in changed:
            stages = [stage for stage in self._in_the_way(name, recipe) if self.has_data(stage)]
            if stages:
                was, now = old.get(name), new[name]
                said = f"{name} was {was!r}, now {now!r}" if was != now else f"the text of {name} {now!r} was changed"
                raise UserError(
                    f"{self.path} was made by other settings: {said}; {stages[0]} has data",
                    f"put the setting back, or start another run: --out {self.path}-2",
                )

    def _in_the_way(self, setting: str, recipe: Recipe) -> list[str]:
        """The stages that may have no data yet where a setting changes: more rounds go on, fewer must not have run."""
        if setting == "rounds.count":
            return [name for name in self.stages if StageName.of(name).round > recipe.rounds.count]
        return stages_after(setting)

    def has_data(self, stage: str) -> bool:
        """Whether other settings would mix data: not where a stage failed before its first record, or in training."""
        accepted = self.path.glob(f"{stage}.jsonl" if stage != "evaluate" else "evaluation/*.jsonl")
        rejected = self.path.glob(f"rejected/{stage}.jsonl")
        return self.stages[stage].state == "done" or any(file.stat().st_size for file in (*accepted, *rejected))

    def store(self, stage: str) -> RecordStore:
        """The records of a stage (`evaluate/base` has its file under evaluation/)."""
        if "/" in stage:
            folder, name = "evaluation", stage.split("/", 1)[1]
            return RecordStore(self.path / folder / f"{name}.jsonl", self.path / "rejected" / f"{folder}-{name}.jsonl")
        return RecordStore(self.path / f"{stage}.jsonl", self.path / "rejected" / f"{stage}.jsonl")

    def accepted(self, stage: str) -> Sequence[Record]:
        """The accepted records of a stage, read when they are looked at."""
        return RecordFile(self.path / f"{stage}.jsonl")

    def _refuse_foreign(self) -> None:
        """Before the lock is made: nothing is left in a directory that is not ours."""
        names = {entry.name for entry in self.path.iterdir()}
        if "run.json" not in names and names - {".lock", ".run.json.tmp", "logs"}:  # a job in a queue has its log there
            raise UserError(f"{self.path} is not empty and holds no run", "name a new directory: --out runs/NAME")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here. The lock falls with the process that holds it."""
        from filelock import FileLock, Timeout

        make_directory(self.path)
        self._refuse_foreign()
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as fault:
            raise UserError(
                f"{self.path} is being written by another process",
                f"wait for it: selfalign status {self.path}",
                exit_code=1,
            ) from fault
        try:
            if self.manifest_path.exists():
                self._load()
            yield
        finally:
            lock.release()


def make_directory(path: Path) -> None:
    """Make `path`, or say why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"cannot make the directory {path}: {fault.strerror}", "name another one: --out DIR") from fault


def open_run(path: Path) -> RunDirectory:
    """An existing run, to look at."""
    if not (path / "run.json").is_file():
        raise UserError(
            f"{path} is no run directory: it has no run.json", f"selfalign run recipes/demo.yaml --out {path}"
        )
    return RunDirectory(path)
