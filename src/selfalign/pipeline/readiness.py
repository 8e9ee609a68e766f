"""What would end a run after hours is told before its first stage."""

from __future__ import annotations

from collections.abc import Sequence

from selfalign.constitution.schema import Constitution
from selfalign.filters.novelty_kinds import check_installed
from selfalign.pipeline.context_length import check_context
from selfalign.pipeline.evaluation import Evaluation
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.sources.given import given_instructions
from selfalign.recipe import Recipe


def check_extras(run: RunDirectory, recipe: Recipe, evaluation: Evaluation, names: Sequence[str]) -> None:
    """UserError for a task without data, or a library that novelty needs and that is missing."""
    if "evaluate" in names and run.stages["evaluate"].state != "done":
        evaluation.check_tasks(recipe.evaluate.tasks, recipe.evaluate.limit)
    if run.stages["instructions"].state != "done":
        check_installed(recipe.instructions.novelty.kind)


def check_inputs(run: RunDirectory, recipe: Recipe, constitution: Constitution) -> None:
    """UserError for sources that cannot be read, and for a constitution that is too long for the model."""
    if run.stages["instructions"].state != "done":
        given_instructions(run, recipe)
    if run.stages["responses"].state != "done":
        check_context(recipe, constitution)
