"""What would end a run after hours, mix its data or waste its machines is told before it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfalign.constitution.schema import Constitution
from selfalign.engines.embedded.loading import resolve_model
from selfalign.errors import UserError
from selfalign.filters.novelty_kinds import check_installed
from selfalign.pipeline.context_length import check_context
from selfalign.pipeline.evaluation import Evaluation
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.sources.given import given_instructions
from selfalign.pipeline.stage import GenerationStage
from selfalign.recipe import Recipe
from selfalign.record_store import RecordStore


def check_extras(run: RunDirectory, recipe: Recipe, evaluation: Evaluation, names: Sequence[str]) -> None:
    """UserError for a task without data, or a library that novelty needs and that is missing."""
    if "evaluate" in names and run.stages["evaluate"].state != "done":
        evaluation.check_tasks(recipe.evaluate.tasks, recipe.evaluate.limit)
    if run.stages["instructions"].state != "done":
        check_installed(recipe.instructions.novelty.kind)


def check_inputs(run: RunDirectory, recipe: Recipe, constitution: Constitution) -> None:
    """UserError for sources that cannot be read, a constitution that is too long, and a base that is an adapter."""
    if run.stages["instructions"].state != "done":
        given_instructions(run, recipe)
    if run.stages["responses"].state != "done":
        check_context(recipe, constitution)
    if run.stages["engrave"].state != "done" and recipe.engine.has_weights:
        refuse_adapter(recipe.base_model)


def refuse_adapter(base_model: str) -> None:
    """UserError for an adapter as the base model: it would generate, and training would start from what is below it."""
    source = resolve_model(base_model)
    if source.adapter:
        raise UserError(
            f"base_model {base_model} is an adapter, and a training starts from whole weights",
            f"selfalign weights merge {base_model} --to DIR, then --set base_model=DIR",
        )


def check_same_engine(run: RunDirectory, stage: GenerationStage, store: RecordStore) -> None:
    """UserError where the stage was begun on an engine that describes itself otherwise: all its keys would be others.

    Another device or number format is another engine. Between two stages a run may move to one.
    """
    for rows in (store.accepted, store.rejected):
        was, now = rows[-1].engine if rows else {}, stage.context.engine  # what a source gave has none
        if was and was != now:
            raise UserError(
                f"stage {stage.name} was begun on the engine {in_words(was)}; this one is {in_words(now)}",
                f"finish the stage where it was begun, or start another run: --out {run.path}-2",
            )


def in_words(engine: dict[str, Any]) -> str:
    """`embedded, smollm2-135m, bfloat16, cpu`."""
    return ", ".join(map(str, engine.values()))


def idle_replicas(recipe: Recipe) -> str:
    """Which replicas of a Ray cluster a chunk cannot feed, and what would; empty where all have work."""
    engine = recipe.engine
    busy = -(-recipe.chunk_size // engine.batch_size)
    if engine.kind != "ray" or busy >= engine.replicas:
        return ""
    return (
        f"chunk_size {recipe.chunk_size} feeds {busy} of {engine.replicas} replicas with batches of "
        f"{engine.batch_size}: a new run with chunk_size {engine.replicas * engine.batch_size} keeps all at work"
    )
