"""Everything that a release tells, gathered from a run: a finished one, or one that stopped before its last training.

Such a run has a data set and no model yet. One that stands in the middle of a stage is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.constitution.schema import Constitution
from selfalign.errors import UserError
from selfalign.recipe import Recipe, load_recipe
from selfalign.release.base import Base, public_base
from selfalign.release.results import TaskResult, task_results
from selfalign.report.held_out import HeldOut, held_out
from selfalign.report.ledger import Ledger, ledger
from selfalign.report.read import RunFiles, read_json, read_run
from selfalign.report.stages import GENERATING, Decontamination, decontamination, decontaminations
from selfalign.report.training import TRAINING, Training, training

NEEDED = ("topics", "instructions", "responses", "engrave", "elaborations", "clone", "evaluate")
IN_ROUNDS = ("responses", "engrave")
"""Stages that a further round repeats: `responses-2` is that of round 2."""


class Wishes(NamedTuple):
    """What the command line says about a release."""

    merged: bool = False
    base_model: str = ""
    base_license: str = ""
    model_repo: str = ""
    dataset_repo: str = ""
    proof: bool = True


class Gate(NamedTuple):
    """What the gate after training said of the model: `reason` where it failed, and every check in words."""

    passed: bool
    reason: str
    checks: list[str]


class Generated(NamedTuple):
    """A stage that made data: what it kept, and what each filter took out, the strictest first."""

    name: str
    accepted: int
    by_filter: list[tuple[str, int]]

    @property
    def rejected(self) -> int:
        """All that was taken out."""
        return sum(number for _, number in self.by_filter)


class Untrained(NamedTuple):
    """The data set of a training that is yet to begin: the rows of its splits, and what of them overlaps a benchmark.

    `config` is `engrave` or `clone`; `stage` the training's name.
    """

    config: str
    stage: str
    splits: dict[str, list[dict[str, Any]]]
    decontamination: dict[str, Any] | None


class Facts(NamedTuple):
    """A run and its base, as cards tell of them. `kind` is "" where the run has no final model yet."""

    run: RunFiles
    recipe: Recipe
    constitution: Constitution
    base: Base
    wishes: Wishes
    kind: str
    generated: list[Generated]
    trainings: list[Training]
    ledger: Ledger | None
    comparison: HeldOut | None
    tasks: list[TaskResult]
    gate: Gate | None
    decontaminations: dict[str, Decontamination]
    untrained: Untrained | None = None

    def with_untrained(self, data: Untrained) -> Facts:
        """The same, with the data set that the run's next training would learn from."""
        found = {data.stage: decontamination(data.decontamination)} if data.decontamination else {}
        return self._replace(untrained=data, decontaminations=self.decontaminations | found)

    @property
    def model(self) -> Path:
        """The directory of the final model."""
        return self.run.path / "models" / "final"

    @property
    def engraved_from(self) -> str:
        """The name of the data set that the engraved model learnt from."""
        return of_kept_round(self.run, "engrave")


def gather(path: Path, wishes: Wishes) -> Facts:
    """Read the run. UserError where it is none, or not finished, or without rows, or of an unknown base."""
    run = read_run(path)
    has_model = refuse_unfinished(run, wishes.merged)
    wishes = wishes if has_model else wishes._replace(model_repo="")
    recipe = load_recipe(run.path / "recipe.yaml")
    if run.constitution is None:
        raise UserError(f"{path} has no constitution.yaml", "restore the file from a backup")
    return Facts(
        run,
        recipe,
        run.constitution,
        public_base(recipe.base_model, wishes.base_model, wishes.base_license),
        wishes,
        model_kind(run, wishes.merged) if has_model else "",
        [generated(run, name) for name in stages_like(run, GENERATING)],
        [training(name, run.stage(name)) for name in stages_like(run, TRAINING)],
        ledger(run.manifest),
        held_out(run),
        task_results(run),
        read_gate(run.path / "models" / "final" / "gate.json"),
        decontaminations(run),
    )


def refuse_unfinished(run: RunFiles, merged: bool) -> bool:
    """Whether the run has a final model. What a card says of a run must be the whole of it, so a UserError otherwise.

    With a model all stages but the report must be done. Without one, the responses, and every stage that was begun.
    """
    states = {name: str(run.stage(name).get("state", "pending")) for name in run.stage_names}
    has_model = states.get("clone", "pending") != "pending"
    if has_model:
        needed = [of_kept_round(run, stage) for stage in NEEDED]
    else:
        needed = [name for name, state in states.items() if state not in ("pending", "skipped")]
    for name in needed:
        state, why = states.get(name, "pending"), run.stage(name).get("failure", "")
        if state != "done":
            raise UserError(
                f"{run.path} is not finished: {name} is {state}{f' ({why})' if why else ''}",
                command_to_go_on(run),
                exit_code=1,
            )
    if not has_model and (responses := of_kept_round(run, "responses")) not in needed:
        raise UserError(
            f"{run.path} has nothing to release yet: {responses} is pending",
            f"{command_to_go_on(run)} --until {responses}",
            exit_code=1,
        )
    if not has_model and merged:
        raise UserError(
            f"{run.path} has no final model yet, so there is nothing to merge",
            f"{command_to_go_on(run)}; or leave --merged out, and the data set alone is released",
            exit_code=1,
        )
    return has_model


def command_to_go_on(run: RunFiles) -> str:
    """What runs the stages that are not done."""
    return f"selfalign run {run.path / 'recipe.yaml'} --out {run.path}"


def of_kept_round(run: RunFiles, stage: str) -> str:
    """The stage of the round whose model the run kept."""
    kept = (run.manifest.get("rounds") or {}).get("kept", 1)
    return f"{stage}-{kept}" if stage in IN_ROUNDS and kept > 1 else stage


def stages_like(run: RunFiles, kinds: Sequence[str]) -> list[str]:
    """The stages of these kinds that have run, those of further rounds too, in the order of the manifest."""
    return [
        name
        for name, entry in run.manifest.get("stages", {}).items()
        if name.partition("-")[0] in kinds and entry.get("state") in ("done", "failed")
    ]


def generated(run: RunFiles, name: str) -> Generated:
    """Counts from the manifest."""
    entry = run.stage(name)
    rejected: dict[str, int] = entry.get("rejected") or {}
    return Generated(name, entry.get("accepted", 0), sorted(rejected.items(), key=lambda item: (-item[1], item[0])))


def model_kind(run: RunFiles, merged: bool) -> str:
    """`adapter`, `merged`, or `full` where training changed every weight."""
    model = run.path / "models" / "final"
    if (model / "adapter_config.json").is_file():
        return "merged" if merged else "adapter"
    if any(model.glob("model*.safetensors")):
        return "full"
    raise UserError(f"{run.path} has no final model: {model} holds no weights", f"selfalign status {run.path}")


def read_gate(file: Path) -> Gate | None:
    """The gate's verdict on a model, or None where it was not judged."""
    if not file.is_file():
        return None
    content = read_json(file)
    checks = [str(check["reason"]) for check in content.get("checks", []) if check.get("reason")]
    return Gate(bool(content.get("passed")), str(content.get("reason", "")), checks)
