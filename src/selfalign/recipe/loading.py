"""From a YAML file and `--set a.b=c` to a recipe, or to all that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import ConstructorError

from selfalign.errors import UserError
from selfalign.recipe.recipe import Recipe


class UniqueKeyLoader(yaml.SafeLoader):
    """Takes no key twice: of two sections of one name PyYAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML makes it."""
        known: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in known:
                raise ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            known.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `a.b=c` overrides. All faults are told at once: path, value and what is allowed."""
    if not path.is_file():
        raise UserError(f"no recipe at {path}", "selfalign run recipes/demo.yaml")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader) or {}
    except (yaml.YAMLError, ValueError) as fault:  # ValueError: not UTF-8, or a date such as 2024-99-99
        said = " ".join(str(fault).replace('in "<unicode string>", ', "in ").split())
        raise UserError(f"{path} is not YAML: {said}", f"mend {path}") from fault
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold a mapping of options, not {type(data).__name__}", f"mend {path}")
    for override in overrides or []:
        apply_override(data, override)
    return validate_recipe(data, str(path), f"mend {path}{' or the --set options' * bool(overrides)}")


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set `a.b=c` in nested mappings; the value is read as YAML."""
    name, separator, value = override.partition("=")
    if not separator or not name:
        raise UserError(
            f"--set {override!r} is not of the form a.b=c", "selfalign run RECIPE --set responses.attempts=3"
        )
    *parents, last = name.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise UserError(f"--set {override!r}: {parent} is not a section", "selfalign run --help")
    try:
        data[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as fault:
        raise UserError(f"--set {override!r}: the value is not YAML", "put it in quotes") from fault


def validate_recipe(data: dict[str, Any], source: str, remedy: str = "mend the recipe") -> Recipe:
    """Raises a UserError that lists every fault, and what mends it."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as fault:
        lines = [f"  {describe_fault(error)}" for error in fault.errors()]
        count = f"{len(lines)} fault{'s' * (len(lines) != 1)}"
        raise UserError(
            f"{source}: {count}\n" + "\n".join(lines), f"{remedy} and run the same command again"
        ) from fault


def describe_fault(error: Any) -> str:
    """`path: value V: what is allowed`, for one pydantic error."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key; known here: {', '.join(known_keys(error['loc'][:-1]))}"
    return f"{path}: {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The option names of the section at `path`."""
    section: type[BaseModel] = Recipe
    for name in (part for part in path if isinstance(part, str)):
        annotation: Any = section.model_fields[name].annotation
        annotation = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)
