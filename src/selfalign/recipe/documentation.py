"""What `selfalign run --options` prints, generated from the fields."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from selfalign.recipe.recipe import Recipe


def document(section: type[BaseModel] = Recipe, indent: str = "") -> str:
    """A commented YAML template of every option, generated from the fields."""
    lines = []
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            lines += [f"{indent}{name}:  # {(info.annotation.__doc__ or '').strip()}"]
            lines += [document(info.annotation, indent + "  ")]
        else:
            default = info.default
            value = list(default) if isinstance(default, tuple) else default
            text = yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()
            lines += [f"{indent}{name}: {text}  # {type_name(info.annotation)}: {info.description}"]
            lines += [f"{indent}#   {row}" for row in item_options(info.annotation)]
    return "\n".join(lines)


def item_options(annotation: Any) -> list[str]:
    """What an item of a list of sections may say, one option a line."""
    part = next(iter(get_args(annotation)), None)
    fields = part.model_fields if isinstance(part, type) and issubclass(part, BaseModel) else {}
    return [f"{name} ({type_name(info.annotation)}): {info.description}" for name, info in fields.items()]


def type_name(annotation: Any) -> str:
    """A short name of a field's type, for the generated documentation."""
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation))
    return getattr(annotation, "__name__", str(annotation))
