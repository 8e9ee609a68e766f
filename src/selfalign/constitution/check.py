"""Says everything that is wrong with a constitution, each fault with its line, in one pass.

A text goes through four steps: YAML (a syntax fault ends the check), templates, schema, and the rules that no schema
can say. Each step works on whatever the one before left whole, so that all faults are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from selfalign.constitution.document import BrokenDocument, Fault, KeyPath, Problem, format_path, parse
from selfalign.constitution.schema import AT_MOST_ONE_LINE, CITABLE, ONE_LINE, Constitution
from selfalign.constitution.templating import STAGE_TEXT, STAGE_VARIABLE, Resolver, escape
from selfalign.errors import UserError
from selfalign.recipe import InstructionsOptions

CITATION = re.compile(r"(\d+) \(([^()]+)\)")
DELIMITER = re.compile(r"^### ", re.MULTILINE)
SHOTS = InstructionsOptions().shots


class Checked(NamedTuple):
    """All faults in the order of lines; the resolved constitution where none of them is an error."""

    constitution: Constitution | None
    faults: list[Fault]


def check(source: str | Path) -> list[Fault]:
    """All faults of a constitution: a `str` is YAML text, a `Path` is read (a UserError where that fails)."""
    return examine(read_text(source) if isinstance(source, Path) else source).faults


def examine(text: str, identity_name: str = "") -> Checked:
    """The faults of a YAML text and the resolved constitution it stands for, called `identity_name` unless blank."""
    try:
        document = parse(text)
    except BrokenDocument as broken:
        return Checked(None, [broken.fault])
    if identity_name.strip() and isinstance(document.data.get("identity"), dict):
        document.data["identity"]["name"] = escape(identity_name)
    templates = Resolver(document.data)
    data = templates.resolve()
    constitution, problems = validate(data, templates.broken)
    problems += [*document.problems, *templates.problems, *delimiter_problems(document.data)]
    problems += [problem for rule in RULES for problem in rule(data, templates.broken)]
    faults = sorted({document.fault(problem) for problem in problems})
    failed = any(fault.severity == "error" for fault in faults)
    return Checked(None if failed else constitution, faults)


def read_text(path: Path) -> str:
    """A file as UTF-8; one that is not there, or not UTF-8, is a UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise UserError(f"cannot read {path}: {fault.strerror}", "selfalign constitution check PATH") from fault
    except UnicodeDecodeError as fault:
        raise UserError(f"{path} is not UTF-8 text: {fault.reason} at byte {fault.start}", f"mend {path}") from fault


# ---- schema ----


def validate(data: dict[str, Any], broken: set[KeyPath]) -> tuple[Constitution | None, list[Problem]]:
    """The constitution, or what the schema holds against it; texts already told as broken are left out."""
    try:
        return Constitution.model_validate(data), []
    except ValidationError as fault:
        errors = [(tuple(error["loc"]), error) for error in fault.errors(include_url=False)]
        return None, [Problem(path, describe(path, error)) for path, error in errors if path not in broken]


def describe(path: KeyPath, error: Any) -> str:
    """One pydantic error in this project's words, with the value where it is short enough to help."""
    value = error["input"]
    shown = f"{value!r} " if isinstance(value, str | int | float | bool) and len(repr(value)) <= 60 else ""
    match error["type"]:
        case "missing":
            return f"missing key `{path[-1]}`"
        case "extra_forbidden":
            return f"unknown key `{path[-1]}`; known here: {', '.join(known_keys(path[:-1]))}"
        case "string_too_short" | "too_short":
            return "is empty"
        case "string_type":
            return f"{shown}is not text; put it in quotes" if shown else f"must be text, not {kind(value)}"
        case "tuple_type":
            return f"must be a list, not {kind(value)}"
        case "model_type" | "dict_type":
            return f"must be a mapping, not {kind(value)}"
        case "string_pattern_mismatch":
            return PATTERNS[error["ctx"]["pattern"]]
        case _:
            said: str = error["msg"]
            return f"{shown}{said[0].lower()}{said[1:]}".replace("input should be", "must be")


PATTERNS = {
    ONE_LINE: "must be one line",
    AT_MOST_ONE_LINE: "must be one line",
    CITABLE: "must be one line without parentheses, so that a thought can cite it",
}


def kind(value: Any) -> str:
    """What a YAML value is, in words."""
    kinds = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing", bool: "true or false"}
    return kinds.get(type(value), "a number")


def known_keys(path: KeyPath) -> list[str]:
    """The keys of the part at `path`."""
    part: type[BaseModel] = Constitution
    for name in path:
        if isinstance(name, str):
            annotation: Any = part.model_fields[name].annotation
            part = next(iter(get_args(annotation)), annotation)
    return list(part.model_fields)


# ---- what no schema can say ----

EACH = -1
UNIQUE: tuple[KeyPath, ...] = (
    ("principles", EACH, "number"),
    ("principles", EACH, "name"),
    ("exemplars", EACH, "name"),
    ("instruction_types", EACH, "name"),
    ("identity", "pairs", EACH, "questions", EACH),
    ("seeds", EACH),
)


def select(value: Any, pattern: KeyPath, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """What stands at a path, where `EACH` is every item of a list. What is not there is passed over."""
    if not pattern:
        yield path, value
    elif pattern[0] == EACH:
        for i, item in enumerate(value) if isinstance(value, list) else ():
            yield from select(item, pattern[1:], (*path, i))
    elif isinstance(value, dict) and pattern[0] in value:
        yield from select(value[pattern[0]], pattern[1:], (*path, pattern[0]))


def same(value: Any) -> str:
    """Equal for values that count as one: case and white space do not matter, and of a seed only its two texts."""
    if isinstance(value, dict):
        instruction, text = same(value.get("instruction")), same(value.get("input"))
        return f"{instruction}\n{text}" if instruction else ""
    return " ".join(str(value).split()).casefold() if isinstance(value, str | int) else ""


def duplicates(data: dict[str, Any], broken: set[KeyPath]) -> Iterator[Problem]:
    """Numbers, names, questions and seeds that stand twice."""
    for pattern in UNIQUE:
        first: dict[str, KeyPath] = {}
        for path, value in select(data, pattern):
            key = same(value)
            if key in first:
                shown = "" if isinstance(value, dict) else f" {value!r}"
                yield Problem(path, f"duplicate{shown}: the same as {format_path(first[key])}")
            elif key:
                first[key] = path


def citations(data: dict[str, Any], broken: set[KeyPath]) -> Iterator[Problem]:
    """Thoughts that cite none or a wrong principle, and principles that no thought cites."""
    citable = [(path, part) for path, part in select(data, ("principles", EACH)) if is_citable(part)]
    names = {str(part["number"]): part["name"].strip() for _, part in citable}
    opening = opening_of(data)
    cited: set[str] = set()
    for path, thought in select(data, ("exemplars", EACH, "turns", EACH, "thought")):
        if not isinstance(thought, str) or not thought.strip() or path in broken:
            continue
        if not thought.strip().startswith(opening):
            yield Problem(path, f"does not begin with templates.thought_opening, `{opening}`")
        found = CITATION.findall(thought)
        cited.update(number for number, _ in found)
        if not found:
            yield Problem(path, "cites no principle; a citation looks like `7 (candor)`")
        for number, name in found:
            if number not in names:
                yield Problem(path, f"cites `{number} ({name})`, but there is no principle {number}")
            elif name != names[number]:
                yield Problem(path, f"cites `{number} ({name})`, but principle {number} is `{names[number]}`")
    for path, part in citable:
        if str(part["number"]) not in cited:
            yield Problem(path, f"no exemplar cites principle {part['number']}", "warning")


def opening_of(data: dict[str, Any]) -> str:
    """The text that every thought begins with, or the empty string."""
    templates = data.get("templates")
    opening = templates.get("thought_opening", "") if isinstance(templates, dict) else ""
    return opening.strip() if isinstance(opening, str) else ""


def is_citable(principle: Any) -> bool:
    """Whether it has a number and a name at all."""
    if not isinstance(principle, dict):
        return False
    return isinstance(principle.get("number"), int) and isinstance(principle.get("name"), str)


def shortages(data: dict[str, Any], broken: set[KeyPath]) -> Iterator[Problem]:
    """Fewer worked examples than a recipe's usual shots; topics asked for without saying of which type."""
    for name in ("seeds", "instruction_types"):
        rows = data.get(name)
        if isinstance(rows, list) and 0 < len(rows) < SHOTS:
            yield Problem((name,), f"{len(rows)} here, but a prompt shows {SHOTS} of them", "warning")
    for path, text in select(data, STAGE_TEXT):
        if isinstance(text, str) and STAGE_VARIABLE not in text and path not in broken:
            yield Problem(path, f"does not say {STAGE_VARIABLE}, so that all types get the same topics", "warning")


def delimiter_problems(data: dict[str, Any]) -> Iterator[Problem]:
    """Lines that look like a delimiter of the prompts."""
    for path, text in leaves(data, ()):
        for match in DELIMITER.finditer(text):
            message = "a line begins with `### `, which marks turns in prompts; it is escaped there"
            yield Problem(path, message, "warning", text.count("\n", 0, match.start()))


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every text under `value` with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))


RULES = (duplicates, citations, shortages)
