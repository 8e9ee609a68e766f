"""Ablation: the responses of a run beside those that it would have without one part of the constitution.

Only what depends on the part is made anew, and on a sample of the run's instructions: responses where the prompt
changes, and two short trainings, with the part and without it, measured on the same rows. The sample follows from the
run's instructions alone, so all ablations of one run compare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfalign.constitution.loading import constitution_hash
from selfalign.constitution.schema import Constitution
from selfalign.constitution.without import (
    find_exemplar,
    find_principle,
    find_type,
    without_exemplar,
    without_principle,
    without_type,
)
from selfalign.engines.base import Engine
from selfalign.errors import UserError
from selfalign.pipeline.drive import Generation
from selfalign.pipeline.engines import open_engine
from selfalign.pipeline.held_out import split_held_out
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.progress import Progress
from selfalign.pipeline.responses import ResponsesStage
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.stage import Context
from selfalign.recipe import Recipe
from selfalign.record_store import RecordStore
from selfalign.records import Record, content_hash, write_atomically

Kind = Literal["principle", "exemplar", "type", "thoughts"]
"""What can be left out."""


class Change(NamedTuple):
    """What is left out: its kind, its name as files hold it, and in words."""

    kind: Kind
    slug: str
    words: str
    constitution: Constitution

    @property
    def prompts_differ(self) -> bool:
        """Whether the responses' prompt is another one; an instruction type stands in no such prompt."""
        return self.kind != "type"


def change_of(constitution: Constitution, kind: Kind, named: str = "") -> Change:
    """The constitution without the part that a user names; a UserError lists the parts where it has none of it."""
    match kind:
        case "principle":
            found = find_principle(constitution, named)
            words = f"without {found.number} ({found.name})"
            return Change(kind, f"principle-{found.number}", words, without_principle(constitution, named))
        case "exemplar":
            name = find_exemplar(constitution, named).name
            words = f"without exemplar {name}"
            return Change(kind, f"exemplar-{plain_name(name)}", words, without_exemplar(constitution, named))
        case "type":
            name = find_type(constitution, named).name
            return Change(kind, f"type-{plain_name(name)}", f"without type {name}", without_type(constitution, named))
        case "thoughts":
            return Change(kind, "thoughts", "without thoughts", constitution)


def plain_name(text: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:60]


@dataclass
class Ablation:
    """One change on a sample of one run, in a folder of its own: `RUN/ablations/principle-7`."""

    recipe: Recipe
    run: RunDirectory
    constitution: Constitution
    change: Change
    size: int
    settings: str = ""

    @property
    def folder(self) -> Path:
        """Where its responses, models and figures lie."""
        return self.run.path / "ablations" / self.change.slug

    def sample(self) -> list[Record]:
        """So many instructions of the run's training part, chosen by key."""
        instructions, _ = split_held_out(self.run.accepted("instructions"), self.recipe.evaluate.held_out)
        return sorted(instructions, key=lambda record: content_hash(["ablation", record.key]))[: self.size]

    def whole(self, sample: Sequence[Record]) -> dict[str, Record]:
        """Instruction -> the response that the run accepted for it."""
        wanted = {record.key for record in sample}
        return by_instruction(record for record in self.run.accepted("responses") if record.parents[0] in wanted)

    def without(self, sample: Sequence[Record]) -> dict[str, Record]:
        """Instruction -> the response without the part: made now, or the run's own where it cannot differ."""
        if self.change.prompts_differ:
            return by_instruction(self.generate(sample))
        kept = {kind.name for kind in self.change.constitution.instruction_types}
        dropped = {kind.name for kind in self.constitution.instruction_types} - kept
        return {key: record for key, record in self.whole(sample).items() if record.type not in dropped}

    def generate(self, sample: Sequence[Record]) -> list[Record]:
        """The accepted responses of the sample; what an earlier session made is kept."""
        engine = open_engine(self.recipe.engine, self.recipe.base_model)
        try:
            stage = self.stage(engine, sample)
            state = self.state(content_hash([stage.context.settings_hash, stage.thinks, [r.key for r in sample]]))
            self.save(state)  # before the first record: what is there is of these settings and no others
            store = RecordStore(self.folder / "responses.jsonl", self.folder / "rejected" / "responses.jsonl")
            progress = Progress(stage.name, stage.goal, len(store.accepted))
            try:
                save = lambda: self.save(state)  # noqa: E731
                Generation(stage, store, state, lambda: engine, save, progress, self.recipe.abort).run(
                    self.recipe.chunk_size
                )
            finally:
                progress.close()
        finally:
            engine.close()
        return list(store.accepted)

    def stage(self, engine: Engine, sample: Sequence[Record]) -> ResponsesStage:
        """Stage `responses` under the changed constitution."""
        constitution = self.change.constitution
        context = Context(
            f"responses/{self.change.slug}",
            self.recipe,
            constitution,
            constitution_hash(constitution),
            self.recipe.responses,
            engine.describe() | {"model": self.recipe.base_model},
            engine.chat_format(constitution.style("standard")),
        )
        thinks = self.change.kind != "thoughts"
        return ResponsesStage(context, self.recipe.responses, sample, thinks=thinks)

    def state(self, settings: str) -> StageState:
        """How far the folder is; a UserError where other settings made it."""
        path = self.folder / "ablation.json"
        self.settings = settings
        if not path.is_file():
            return StageState()
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if row["settings"] != settings:
            raise UserError(
                f"{self.folder} was made by other settings, or on another sample",
                f"put them back, or make it anew: rm -r {self.folder}",
            )
        return StageState.from_dict(row["responses"])

    def save(self, state: StageState) -> None:
        """What was done, after each chunk."""
        row = {"change": self.change.words, "settings": self.settings, "responses": state.to_dict()}
        write_atomically(self.folder / "ablation.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def by_instruction(records: Iterable[Record]) -> dict[str, Record]:
    """Instruction -> its response."""
    return {record.parents[0]: record for record in records}


def in_order(sample: Sequence[Record], responses: Mapping[str, Record]) -> list[Record]:
    """The responses in the order of their instructions."""
    return [responses[record.key] for record in sample if record.key in responses]
