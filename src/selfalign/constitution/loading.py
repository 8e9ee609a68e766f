"""Constitutions by name or path: found, checked, resolved, hashed and written down again."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from selfalign.constitution.check import examine, read_text
from selfalign.constitution.document import KeyPath
from selfalign.constitution.schema import Constitution
from selfalign.constitution.templating import LITERAL, STAGE_VARIABLE, escape
from selfalign.errors import UserError
from selfalign.records import content_hash

# What YAML reads back as another line break, or cannot show, goes into double quotes with escapes.
UNSHOWN = re.compile("[\r\x85\u2028\u2029\ufeff]")
LINE_WIDTH = 110


class ConstitutionFile(NamedTuple):
    """The text of a constitution, unchecked, and the path that names it in messages."""

    source: str
    text: str


def builtin_names() -> list[str]:
    """The constitutions that come with the package."""
    entries = (resources.files("selfalign.constitution") / "builtin").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def find_constitution(name_or_path: str) -> ConstitutionFile:
    """A built-in by its name, or else a file by its path. UserError where there is neither, or it cannot be read."""
    builtin = builtin_names()
    if name_or_path in builtin:
        entry = resources.files("selfalign.constitution") / "builtin" / f"{name_or_path}.yaml"
        return ConstitutionFile(str(entry), entry.read_text(encoding="utf-8"))
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise UserError(
            f"no constitution {name_or_path!r}: neither a file nor a built-in ({', '.join(builtin)})",
            f"selfalign constitution show {builtin[0]}",
        )
    return ConstitutionFile(str(path), read_text(path))


def load_constitution(name_or_path: str, *, identity_name: str = "") -> Constitution:
    """A constitution, checked and fully resolved; `identity_name`, unless blank, replaces its identity's name.

    Raises a UserError that lists every error with file and line; warnings are left to `constitution check`.
    """
    source, text = find_constitution(name_or_path)
    constitution, faults = examine(text, identity_name)
    errors = [fault.format(source) for fault in faults if fault.severity == "error"]
    if constitution is None:
        count = f"{len(errors)} fault{'s' * (len(errors) != 1)}"
        listed = "\n".join(f"  {error}" for error in errors)
        raise UserError(f"{source}: {count}\n{listed}", f"mend {source}, selfalign constitution check {name_or_path}")
    return constitution


def constitution_hash(constitution: Constitution) -> str:
    """Stands for the whole resolved content in record keys."""
    return content_hash(constitution.model_dump(mode="json"))


def to_yaml(constitution: Constitution) -> str:
    """The resolved constitution as readable YAML; loading that gives an equal one."""
    return dump_yaml(escape_all(constitution.model_dump(mode="json", exclude_defaults=True), ()))


def dump_yaml(data: dict[str, Any]) -> str:
    """A mapping as YAML, a blank line between its keys."""
    sections = [yaml.dump({key: value}, Dumper=Dumper, **LAYOUT) for key, value in data.items()]
    return "\n".join(sections)


def escape_all(value: Any, path: KeyPath) -> Any:
    """Every text as the template that renders to it; seeds are no templates, and a stage variable stays."""
    if isinstance(value, dict):
        return {key: escape_all(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_all(item, (*path, i)) for i, item in enumerate(value)]
    if not isinstance(value, str) or path[:1] == LITERAL:
        return value
    stage_variable = STAGE_VARIABLE if path == ("templates", "topics") else escape(STAGE_VARIABLE)
    return stage_variable.join(escape(part) for part in value.split(STAGE_VARIABLE))


class Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a literal block."""


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Literal where it has several lines, quoted where YAML would read it back otherwise, plain elsewhere."""
    style = '"' if UNSHOWN.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, represent_text)
LAYOUT: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": LINE_WIDTH, "default_flow_style": False}
