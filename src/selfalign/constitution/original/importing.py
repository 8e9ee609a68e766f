"""From the original's files to a constitution: read, laid over a base and checked, each fault with file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.constitution.check import examine, read_text
from selfalign.constitution.document import BrokenDocument, Document, Fault, KeyPath, format_path, parse
from selfalign.constitution.loading import dump_yaml, escape_all, find_constitution
from selfalign.constitution.original.files import choose_files, read_pieces
from selfalign.constitution.original.piece import Piece
from selfalign.constitution.schema import Constitution
from selfalign.constitution.templating import escape
from selfalign.errors import UserError

BASE = "dromedary"
NAME = "{{ name }}"
IMPORTED = "imported"
SEEDS: KeyPath = ("seeds",)
IDENTITY: KeyPath = ("identity", "pairs")


class Wishes(NamedTuple):
    """What an import is told beside its files; what is empty comes from the files or the base."""

    base: str = BASE
    name: str = ""
    maker: str = ""
    cutoff: str = ""
    licence: str = ""
    replacements: tuple[tuple[str, str], ...] = ()


class Imported(NamedTuple):
    """A constitution as YAML text and resolved, warnings about it, and what was taken from where."""

    text: str
    constitution: Constitution
    warnings: list[str]
    summary: list[str]


def import_constitution(named: Sequence[str], wishes: Wishes) -> Imported:
    """The constitution that the files make. UserError lists every fault as `file:line: path: message`."""
    chosen = choose_files(named)
    pieces = read_pieces(chosen.files)
    if chosen.rest is None:
        return assemble(pieces, {}, wishes)
    rest = read_rest(chosen.rest)
    lines = {path: place.line for path, place in rest.places.items() if path}
    return assemble([*pieces, Piece(str(chosen.rest), lines=lines)], rest.data, wishes)


def read_rest(file: Path) -> Document:
    """What the original's formats have no place for, from the file beside them. UserError where it is no YAML."""
    try:
        return parse(read_text(file))
    except BrokenDocument as broken:
        raise UserError(broken.fault.format(str(file)), f"mend {file}, or leave it out of the import") from broken


def assemble(pieces: Sequence[Piece], rest: dict[str, Any], wishes: Wishes) -> Imported:
    """Lay the pieces over the base, then the rest, then the wishes; check the whole."""
    base = find_constitution(wishes.base)
    data = parse(base.text).data
    name = wishes.name or codename_of(pieces)
    data |= {"name": IMPORTED, "description": "", "licence": escape(wishes.licence)}
    for piece in pieces:
        for path, value in piece.values.items():
            put(data, path, templated(replaced(value, wishes.replacements), path, names_in(piece, path, name)))
    overlay(data, rest)
    for key, text in (("name", name), ("maker", wishes.maker), ("cutoff", wishes.cutoff)):
        if text:
            put(data, ("identity", key), escape(text))
    if wishes.licence:
        data["licence"] = escape(wishes.licence)
    text = dump_yaml({key: value for key, value in data.items() if value != ""})
    constitution, faults = examine(text)
    said = [locate(fault, pieces, base.source) for fault in faults]
    errors = [line for line, fault in zip(said, faults, strict=True) if fault.severity == "error"]
    if constitution is None:
        count = f"{len(errors)} fault{'s' * (len(errors) != 1)}"
        listed = "\n".join(f"  {error}" for error in errors)
        raise UserError(f"the files make no constitution: {count}\n{listed}", "mend them, and import again")
    warnings = [line for line, fault in zip(said, faults, strict=True) if fault.severity == "warning"]
    return Imported(text, constitution, warnings, summary(pieces, constitution, base.source))


def codename_of(pieces: Sequence[Piece]) -> str:
    """What the assistant is to be called: what its chat prompts call it, or else the prompt of its principles."""
    named = [piece for piece in pieces if piece.codename]
    styled = [piece for piece in named if any(path[0] == "styles" for path in piece.values)]
    return (styled or named)[0].codename if named else ""


def names_in(piece: Piece, path: KeyPath, name: str) -> set[str]:
    """The names in a part that mean the assistant, whoever it is to be: they become `{{ name }}`."""
    return {piece.codename, name if path == IDENTITY else ""} - {""}


def templated(value: Any, path: KeyPath, names: set[str]) -> Any:
    """The value as templates that render to it, with `{{ name }}` where one of `names` stands as a word."""
    if isinstance(value, dict):
        return {key: templated(item, (*path, key), names) for key, item in value.items()}
    if isinstance(value, list):
        return [templated(item, (*path, i), names) for i, item in enumerate(value)]
    if not isinstance(value, str) or path[:1] == SEEDS:
        return value
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    parts = re.split(rf"(?<!\w)(?:{words})(?!\w)", value) if words else [value]
    return NAME.join(escape_all(part, path) for part in parts)


def replaced(value: Any, replacements: Sequence[tuple[str, str]]) -> Any:
    """The value with texts put in for others, in the order given."""
    if isinstance(value, dict):
        return {key: replaced(item, replacements) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, replacements) for item in value]
    if isinstance(value, str):
        for old, new in replacements:
            value = value.replace(old, new)
    return value


def put(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set a top-level part, or a part of one."""
    if len(path) == 1:
        data[str(path[0])] = value
    else:
        data[str(path[0])] = {**data.get(str(path[0]), {}), path[1]: value}


def overlay(data: dict[str, Any], rest: dict[str, Any]) -> None:
    """Put in the rest: whole parts, and of a mapping its keys."""
    for key, value in rest.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict) and key != "variables":
            data[key] = data[key] | value
        else:
            data[key] = value


def locate(fault: Fault, pieces: Sequence[Piece], base: str) -> str:
    """The fault at the line of the file that the faulty part is from."""
    path = fault.path
    places = {format_path(path): (piece.file, line) for piece in pieces for path, line in piece.lines.items()}
    while path and path not in places:
        path = re.sub(r"(\[\d+\]|\.?[^.\[\]]+)$", "", path)
    file, line = places.get(path, (base, 0))
    return fault._replace(line=line).format(file) if line else f"{file} (the base): {fault.path}: {fault.message}"


def summary(pieces: Sequence[Piece], constitution: Constitution, base: str) -> list[str]:
    """One line a file, and what the base gave."""
    lines = []
    for piece in pieces:
        parts = ", ".join(describe(path, value) for path, value in piece.values.items()) or "the rest"
        lines += [f"{piece.file}: {parts}", *(f"{piece.file}: {note}" for note in piece.notes)]
    taken = {path for piece in pieces for path in piece.values}
    missing = [format_path(path) for path in PARTS if path not in taken]
    if missing:
        lines.append(f"from the base {base}: {', '.join(missing)}")
    return [*lines, *identity_note(pieces, constitution)]


PARTS: tuple[KeyPath, ...] = (
    ("principles",),
    ("exemplars",),
    SEEDS,
    ("instruction_types",),
    ("styles", "standard"),
    ("styles", "concise"),
    ("styles", "verbose"),
    ("templates", "topics"),
    ("templates", "topic_guided"),
    ("templates", "self_instruct"),
    IDENTITY,
)


def describe(path: KeyPath, value: Any) -> str:
    """`16 principles`, or the path of a text."""
    if path == IDENTITY:
        return f"{sum(len(group['answers']) for group in value)} identity pairs on {len(value)} questions"
    return f"{len(value)} {path[-1]}" if isinstance(value, list) else format_path(path)


def identity_note(pieces: Sequence[Piece], constitution: Constitution) -> list[str]:
    """Identity pairs from elsewhere carry another assistant's name: say so, and how to change it."""
    own = next((piece for piece in pieces if IDENTITY in piece.values), None)
    name, pairs = constitution.identity.name, constitution.identity_pairs
    if own is None or not pairs or any(name in answer for _, answer in pairs):
        return []
    return [f"{own.file}: no answer says {name}; put it in by --replace OLD={name}"]
