"""What a training stage learns from, and the call that trains it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selfalign.constitution.chat_format import ChatFormat
from selfalign.constitution.schema import Constitution
from selfalign.engines.embedded.loading import load_tokenizer, resolve_model
from selfalign.pipeline.board import Board
from selfalign.pipeline.datasets import (
    Dataset,
    clone_rows,
    engrave_rows,
    identity_rows,
    later_round,
    mixed,
    split,
)
from selfalign.pipeline.decontaminate import Decontamination, Sieve
from selfalign.pipeline.manifest import StageName
from selfalign.pipeline.progress import Progress, logger
from selfalign.pipeline.round_files import kept_round
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.recipe import Recipe, TrainingOptions

if TYPE_CHECKING:
    from selfalign.training.session import Leader
    from selfalign.training.train import TrainingResult


def stage_dataset(
    run: RunDirectory, recipe: Recipe, constitution: Constitution, stage: StageName, sieve: Sieve
) -> Dataset:
    """The rows of a training stage: the records of the stage before it that pass the sieve."""
    options: TrainingOptions = getattr(recipe, stage.base)
    identity = identity_rows(constitution, options.identity_copies)
    sieve.look_at(constitution.identity_pairs if identity else ())
    if stage.base == "clone":
        elaborations = sieve.kept(run.accepted("elaborations"))
        return split(clone_rows(elaborations, constitution, options.keep_thoughts), identity, options.validation_rows)
    responses = sieve.kept(run.accepted(str(StageName("responses", stage.round))))
    if stage.round == 1:
        return split(engrave_rows(responses, options.keep_thoughts), identity, options.validation_rows)
    first = sieve.kept(run.accepted("responses"))
    return mixed(later_round(responses, first, options.validation_rows, options.keep_thoughts), identity)


class Ahead(NamedTuple):
    """The training that comes next, what it will learn, and what decontamination finds in that."""

    stage: StageName
    dataset: Dataset
    found: Decontamination | None


def next_training(run: RunDirectory, recipe: Recipe, constitution: Constitution, sieve: Sieve) -> Ahead | None:
    """Of a run that stopped before it; None where its records are not all there yet, or every training has begun."""
    kept = kept_round(run)
    learns_from = {StageName("engrave", kept): StageName("responses", kept)}
    learns_from[StageName("clone", 1)] = StageName("elaborations", 1)
    for stage, source in learns_from.items():
        if run.stages[str(stage)].state == "pending" and run.stages[str(source)].state == "done":
            dataset = stage_dataset(run, recipe, constitution, stage, sieve)
            return Ahead(stage, dataset, sieve.found)
    return None


def train(
    run: RunDirectory,
    recipe: Recipe,
    constitution: Constitution,
    stage: StageName,
    output: Path,
    leader: Leader | None,
    board: Board | None = None,
) -> TrainingResult:
    """Train the base model on the data set that the stage has written, in as many processes as the recipe asks for."""
    from selfalign.training.job import TrainingJob
    from selfalign.training.launch import run_training

    name, base = str(stage), resolve_model(recipe.base_model)
    job = TrainingJob(
        stage=name,
        base_model=Path(base.base),
        dataset=run.path / "datasets" / name,
        options=getattr(recipe, stage.base),
        chat_format=ChatFormat.of(load_tokenizer(base), constitution.style("standard")),
        output=output,
        work=run.path / ".training" / output.name,
        checkpoints=run.path / "checkpoints" / output.name,
        logs=run.path / "logs",
        seed=recipe.seed,
    )
    progress = Progress(name, 1, unit="step", board=board)
    try:
        return run_training(
            job,
            recipe.launch,
            on_step=lambda step, total, loss: progress.step(step, total, f"loss {loss:.3f}"),
            log=logger.info,
            leader=leader,
        )
    finally:
        progress.close()
