"""The held-out loss of an ablation: two models trained on the sample's responses, scored row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from selfalign.constitution.schema import Constitution
from selfalign.pipeline import training
from selfalign.pipeline.datasets import Dataset, engrave_rows, identity_rows, later_round, mixed, split, write_dataset
from selfalign.pipeline.engines import open_engine
from selfalign.pipeline.manifest import StageName
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.settings import settings_hash
from selfalign.recipe import Recipe
from selfalign.records import Record, content_hash, write_atomically

ENGRAVE = StageName("engrave", 1)


def whole_rows(recipe: Recipe, constitution: Constitution, whole: Sequence[Record]) -> Dataset:
    """As the run would train on the sample alone."""
    identity = identity_rows(constitution, recipe.engrave.identity_copies)
    return split(engrave_rows(whole, recipe.engrave.keep_thoughts), identity, recipe.engrave.validation_rows)


def rows_without(
    recipe: Recipe, constitution: Constitution, whole: Sequence[Record], without: Sequence[Record]
) -> Dataset:
    """The other responses, measured on the same validation rows, whose instructions are not learnt."""
    identity = identity_rows(constitution, recipe.engrave.identity_copies)
    options = recipe.engrave
    return mixed(later_round(without, whole, options.validation_rows, options.keep_thoughts), identity)


def losses(recipe: Recipe, constitution: Constitution, dataset: Dataset, folder: Path) -> dict[str, float]:
    """Train the base on `dataset` in `folder`, unless that was done; validation row -> loss in nats a token."""
    model = trained(recipe, constitution, dataset, folder)
    engine = open_engine(recipe.engine, str(model))
    try:
        chat_format = engine.chat_format(constitution.style("standard"))
        segments = [chat_format.segments(row.messages)[-2:] for row in dataset.validation]
        scores = engine.score([(prompt.text, answer.text) for prompt, answer in segments], chat_format=True)
    finally:
        engine.close()
    return {
        row.key: -score.log_probability / max(score.token_count, 1)
        for row, score in zip(dataset.validation, scores, strict=True)
    }


def trained(recipe: Recipe, constitution: Constitution, dataset: Dataset, folder: Path) -> Path:
    """The adapter of these rows."""
    output, stamp = folder / "models" / "engraved", folder / "trained_with"
    made = content_hash([settings_hash(recipe, "engrave"), [row._asdict() for row in dataset.train]])
    if output.is_dir() and stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == made:
        return output
    write_dataset(folder / "datasets" / "engrave", "engrave", dataset, recipe)
    training.train(RunDirectory(folder), recipe, constitution, ENGRAVE, output, None)
    write_atomically(stamp, made + "\n")
    return output
