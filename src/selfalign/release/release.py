"""A run -> a model repository, where it has a model, and a data set repository: files of a folder, or on the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from selfalign.constitution.loading import to_yaml
from selfalign.recipe import Recipe, SourceOptions
from selfalign.release.cards import dataset_card, model_card
from selfalign.release.dataset import Data, plan_data
from selfalign.release.facts import Facts
from selfalign.release.files import PlannedFile, write_file, written
from selfalign.release.model import plan_model, write_merged
from selfalign.release.scan import check_file, known_secrets, local_paths
from selfalign.weights.folder import new_folder

RECIPE_HEAD = (
    "# The recipe of this release. base_model is the published model; the constitution lies beside this file.\n"
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
OF_THIS_MACHINE = {"engine": ("base_url", "served_model", "address"), "launch": ("config_file",)}
"""Options that say where a server, a cluster or a file was: nobody else's business, and no part of the recipe."""


class Release(NamedTuple):
    """What a release consists of: files under `dataset/`, and under `model/` where the run has one."""

    facts: Facts
    files: list[PlannedFile]

    def part(self, name: str) -> list[str]:
        """The paths of one repository's files, from its root."""
        return [file.path.removeprefix(f"{name}/") for file in self.files if file.path.startswith(f"{name}/")]


def plan_release(facts: Facts) -> Release:
    """Every file, scanned: one that holds a token, or a path of this machine, is a UserError. Nothing is written."""
    data = plan_data(facts)
    files = [
        *(model_repository(facts, data) if facts.kind else []),
        *data.files,
        written("dataset/README.md", dataset_card(facts, data), "dataset card"),
        *attachments(facts, "dataset"),
    ]
    secrets, paths = known_secrets(), local_paths(facts.run.path, Path.cwd())
    for file in files:
        looked_through = file.content if file.scanned is None else file.scanned
        if looked_through is not None:
            check_file(file.path, looked_through, secrets, paths, file.origin)
    return Release(facts, sorted(files, key=lambda file: (not file.path.startswith("model/"), file.path)))


def model_repository(facts: Facts, data: Data) -> list[PlannedFile]:
    """The files of the model, its card and what is attached."""
    card = written("model/README.md", model_card(facts, data), "model card")
    return [*plan_model(facts), card, *attachments(facts, "model")]


def write_release(release: Release, output: Path) -> str:
    """Write the folder; it appears whole or not at all. Gives the proof of a merge in one line, else ""."""
    proved = ""
    with new_folder(output) as folder:
        for file in release.files:
            write_file(folder, file)
        if release.facts.kind == "merged":
            proved = write_merged(release.facts, folder / "model")
    return proved


def attachments(facts: Facts, part: str) -> list[PlannedFile]:
    """The recipe and the constitution."""
    return [
        written(f"{part}/recipe.yaml", public_recipe(facts), f"{facts.run.name}/recipe.yaml, places taken out"),
        written(f"{part}/constitution.yaml", to_yaml(facts.constitution), f"{facts.run.name}/constitution.yaml"),
    ]


def public_recipe(facts: Facts) -> str:
    """The run's recipe with the base's Hub id, the attached constitution, and no address of this machine's servers."""
    changes: dict[str, Any] = {"base_model": facts.base.id, "constitution": "constitution.yaml"}
    for name, options in OF_THIS_MACHINE.items():
        section = getattr(facts.recipe, name)
        plain = type(section)()
        changes[name] = section.model_copy(update={option: getattr(plain, option) for option in options})
    sources = public_sources(facts.recipe.instructions.sources)
    changes["instructions"] = facts.recipe.instructions.model_copy(update={"sources": sources})
    recipe: Recipe = facts.recipe.model_copy(update=changes)
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return RECIPE_HEAD + text


def public_sources(sources: Sequence[SourceOptions]) -> tuple[SourceOptions, ...]:
    """The sources of instructions: Hub ids as they are, files and folders of this machine by their names alone."""
    return tuple(
        source
        if HUB_ID.fullmatch(source.path) and not Path(source.path).exists()
        else source.model_copy(update={"path": Path(source.path).name})
        for source in sources
    )
