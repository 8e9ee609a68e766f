"""Which settings decide what data a run makes, and which stages depend on which."""

from __future__ import annotations

from typing import Any

from selfalign.pipeline.manifest import STAGES
from selfalign.recipe import Recipe, Section
from selfalign.records import content_hash

BASE_SETTINGS = ("base_model", "constitution", "identity_name", "seed", "chunk_size", "engine")

STAGE_SETTINGS: dict[str, tuple[str, ...]] = {
    "topics": ("topics",),
    "instructions": ("instructions",),
    "responses": ("responses", "evaluate.held_out"),
    "engrave": ("engrave", "decontaminate"),
    "elaborations": ("elaborations", "rounds"),  # how many rounds there are, and which is kept, is settled before it
    "clone": ("clone",),
    "evaluate": ("evaluate",),
    "report": (),
}
"""What a stage depends on besides the stages before it."""


def flatten(section: Section) -> dict[str, Any]:
    """The settings that decide what data a run makes: dotted name -> value."""
    rows: dict[str, Any] = {}

    def walk(section: Any, prefix: str) -> None:
        for name, info in type(section).model_fields.items():
            value = getattr(section, name)
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("affects_data") is False:
                continue
            if hasattr(type(value), "model_fields"):
                walk(value, f"{prefix}{name}.")
            else:
                rows[prefix + name] = value

    walk(section, "")
    inside = rows.pop("engine.inside", None)
    if rows.get("engine.kind") == "ray":  # as in records and keys: a run may move between one machine and a cluster
        rows["engine.kind"] = inside
    return rows


def stages_after(setting: str) -> list[str]:
    """The stages whose data depend on a setting, in order: the first that names it and all that follow."""
    if setting.split(".")[0] in BASE_SETTINGS:
        return list(STAGES)
    for place, stage in enumerate(STAGES):
        if any(setting == name or setting.startswith(name + ".") for name in STAGE_SETTINGS[stage]):
            return list(STAGES[place:])
    return []


def settings_hash(recipe: Recipe, stage: str) -> str:
    """The hash of what a training stage depends on besides its rows."""
    rows = [flatten(getattr(recipe, stage)), flatten(recipe.decontaminate)]
    return content_hash([*rows, recipe.seed, recipe.base_model])
