"""Where the models of the rounds lie, what a run's files say of each round, and keeping the best one.

`models/engraved` is the model of the kept round (the first, until another is), `models/engraved-2` that of another one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfalign.pipeline.manifest import STAGES, StageName, StageState
from selfalign.pipeline.progress import say
from selfalign.pipeline.rounds import RoundFigures, TextFigures, choose, text_figures
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.recipe import RoundsOptions
from selfalign.training.artifact import replace_directory

ENGRAVED = "engraved"
EARLIER = "earlier"
"""Where what was made from a round that is kept no longer goes."""

MADE_FROM_ENGRAVED = STAGES[STAGES.index("elaborations") :]


def kept_round(run: RunDirectory) -> int:
    """The round whose model `models/engraved` is."""
    kept: int = run.manifest.get("rounds", {}).get("kept", 1)
    return kept


def model_of_round(run: RunDirectory, number: int) -> str:
    """The name of a round's directory under `models`."""
    return ENGRAVED if number == kept_round(run) else f"{ENGRAVED}-{number}"


def provenance(run: RunDirectory, model: str) -> str:
    """What a record calls the model in such a directory: one name for one model, wherever it is moved."""
    name = StageName.of(model)
    number = kept_round(run) if model == ENGRAVED else name.round
    return str(StageName(ENGRAVED, number)) if name.base == ENGRAVED else model


def stop_reason(run: RunDirectory, options: RoundsOptions) -> str:
    """Why there is to be no further round; empty where nothing speaks against one."""
    return choose(figures(run), options).verdict.reason


def settle(run: RunDirectory, options: RoundsOptions, close_engine: Callable[[], None]) -> None:
    """After the last round: keep the best one, and write down why."""
    rounds = figures(run)
    made = choose(rounds, options)
    entry = run.manifest.setdefault("rounds", {"kept": 1})
    before = dict(entry)
    entry |= {"figures": [as_dict(row) for row in rounds], "stopped": made.verdict.reason}
    if entry != before:
        run.save()
        say(
            f"rounds: round {made.kept} of {len(rounds)} is kept"
            + (f"; {made.verdict.reason}" if entry["stopped"] else "")
        )
    if made.kept != kept_round(run):
        close_engine()
        keep(run, made.kept)


def figures(run: RunDirectory) -> list[RoundFigures]:
    """The rounds whose responses are complete, in order."""
    rounds = []
    for name in run.stages:
        stage = StageName.of(name)
        if stage.base == "responses" and run.stages[name].state == "done":
            rounds.append(round_figures(run, stage))
    return rounds


def round_figures(run: RunDirectory, stage: StageName) -> RoundFigures:
    """A round's data, and its model where it has one."""
    store = run.store(str(stage))
    asked = {record.parents[0] for rows in (store.accepted, store.rejected) for record in rows}
    answered = len(store.accepted) / max(len(asked), 1)
    responses = text_figures(record.assistant for record in store.accepted)
    state = run.stages[str(StageName("engrave", stage.round))]
    if state.state not in ("done", "failed"):
        return RoundFigures(stage.round, answered, responses)
    return RoundFigures(stage.round, answered, responses, *model_figures(state))


def model_figures(state: StageState) -> tuple[float | None, str, TextFigures | None]:
    """Held-out loss, why the gate failed, and what its answers were like."""
    gate = state.gate or {}
    answers = TextFigures(gate["mean_words"], gate["variety"]) if gate.get("rows") else None
    loss = (state.training or {}).get("validation_loss")
    return loss, "" if gate.get("passed", True) else str(gate["reason"]), answers


def as_dict(row: RoundFigures) -> dict[str, Any]:
    """As the manifest holds it."""
    texts = {"responses": row.responses._asdict(), "answers": row.answers._asdict() if row.answers else None}
    return row._asdict() | texts


def keep(run: RunDirectory, number: int) -> None:
    """Make a round's model `models/engraved`. What was made from another model is put aside and is to be made again."""
    run.manifest.setdefault("rounds", {"kept": 1})["keeping"] = number
    run.save()
    finish_keeping(run)


def finish_keeping(run: RunDirectory) -> None:
    """Go on with what a killed process began: every move is done once, and the manifest is written last."""
    entry = run.manifest.get("rounds", {})
    number = entry.get("keeping")
    if number is None:
        return
    before = kept_round(run)
    put_aside(run.path, run.path / EARLIER / f"round-{before}")
    models = run.path / "models"
    move(models / ENGRAVED, models / f"{ENGRAVED}-{before}")
    if (models / f"{ENGRAVED}-{number}").exists():
        replace_directory(models / f"{ENGRAVED}-{number}", models / ENGRAVED)
    for stage in MADE_FROM_ENGRAVED:
        run.stages[stage] = StageState()
    entry["kept"] = entry.pop("keeping")
    run.save()


def put_aside(run: Path, earlier: Path) -> None:
    """Move the files of all stages that the engraved model made."""
    names = ["elaborations.jsonl", "rejected/elaborations.jsonl", "datasets/clone", "models/final", "evaluation"]
    names += sorted(str(file.relative_to(run)) for file in run.glob("rejected/evaluation-*.jsonl"))
    for name in names:
        move(run / name, earlier / name)


def move(source: Path, target: Path) -> None:
    """Rename, unless it was done before."""
    if source.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
