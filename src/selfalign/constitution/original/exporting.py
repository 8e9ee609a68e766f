"""From a constitution to the original's files, proved by reading them back.

What their formats have no place for (names of exemplars, the maker, a thought's opening) goes into one more file, so
that an import of the folder gives the constitution back whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from selfalign.constitution.loading import dump_yaml
from selfalign.constitution.original.files import KINDS, REST, write_files
from selfalign.constitution.original.importing import BASE, Wishes, assemble, templated
from selfalign.constitution.schema import Constitution
from selfalign.constitution.templating import IDENTITY
from selfalign.errors import UserError


def export_constitution(constitution: Constitution, base: str = BASE) -> dict[str, str]:
    """File name -> its text; `constitution_rest.yaml` only where something is left for it.

    An import over the same `base` gives the constitution back. A file that would not be read (a reply has a line that
    looks like a turn) is left out, and the rest holds its parts.
    """
    files, made = sound_files(write_files(constitution), Wishes(base))
    rest = remainder(constitution, made)
    return files | ({REST: dump_yaml(rest)} if rest else {})


def remainder(constitution: Constitution, known: dict[str, Any]) -> dict[str, Any]:
    """The parts that are other than `known`, as YAML that renders to them."""
    name, rest = constitution.identity.name, dict[str, Any]()
    for key, value in constitution.model_dump(mode="json").items():
        if isinstance(value, dict) and isinstance(known.get(key), dict) and key != "variables":
            parts = {part: text for part, text in value.items() if text != known[key].get(part)}
            named = {part: templated(text, (key, part), names_for(key, part, name)) for part, text in parts.items()}
            rest |= {key: named} if named else {}
        elif value != known.get(key):
            rest[key] = templated(value, (key,), names_for(key, "", name))
    return rest


def names_for(key: str, part: str, name: str) -> set[str]:
    """The assistant's name, but not in what says who it is: a text cannot be made of itself."""
    return set() if key in ("name", "variables") or (key == "identity" and part in IDENTITY) else {name}


class Sound(NamedTuple):
    """Files that can be read, and the constitution that they make, as plain data."""

    files: dict[str, str]
    made: dict[str, Any]


def sound_files(files: dict[str, str], wishes: Wishes) -> Sound:
    """All files, mostly, so that is tried first; else those that can be read one by one."""
    if made := made_of(files, wishes):
        return Sound(files, made)
    sound = {name: text for name, text in files.items() if made_of({name: text}, wishes)}
    return Sound(sound, made_of(sound, wishes))


def made_of(files: dict[str, str], wishes: Wishes) -> dict[str, Any]:
    """The constitution that an import of the files makes, as plain data; nothing where they cannot be read."""
    try:
        pieces = [kind.read(files[name], name) for kind in KINDS.values() if (name := kind.names[0]) in files]
        return assemble(pieces, {}, wishes).constitution.model_dump(mode="json")
    except UserError:
        return {}
