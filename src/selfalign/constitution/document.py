"""Where things stand in a YAML text: a document that knows the line of every path, and faults with their lines."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import yaml

KeyPath = tuple[str | int, ...]
Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """What is wrong, where: a line of the file (from 1) and a path such as `exemplars[2].turns[0].thought`.

    An error keeps the constitution from being loaded; a warning does not.
    """

    line: int
    path: str
    message: str
    severity: Severity = "error"

    def format(self, source: str) -> str:
        """`source:line: path: message`, as compilers say it."""
        parts = [f"{source}:{self.line}", "warning" if self.severity == "warning" else "", self.path, self.message]
        return ": ".join(part for part in parts if part)


class Problem(NamedTuple):
    """A fault before its line is known; `row` counts lines (from 0) within the text at `path`."""

    path: KeyPath
    message: str
    severity: Severity = "error"
    row: int = 0


def format_path(path: KeyPath) -> str:
    """`exemplars[2].turns[0].thought`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class BrokenDocument(Exception):
    """The text is not a YAML mapping, so nothing more can be said of it than `fault`."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(line, "", message)


class Place(NamedTuple):
    """The line of a key or list item, and that of the first line of text where it holds a literal block (else 0)."""

    line: int
    text: int


class Document(NamedTuple):
    """A parsed constitution; `places` knows where each path stands."""

    data: dict[str, Any]
    places: dict[KeyPath, Place]
    problems: list[Problem]

    def line(self, path: KeyPath, row: int = 0) -> int:
        """The line of `path`, or of the nearest parent that is in the file."""
        while path not in self.places:
            path, row = path[:-1], 0
        place = self.places[path]
        return place.text + row if place.text and row else place.line

    def fault(self, problem: Problem) -> Fault:
        """The problem with its line."""
        line = self.line(problem.path, problem.row)
        return Fault(line, format_path(problem.path), problem.message, problem.severity)


class Loader(yaml.SafeLoader):
    """YAML without aliases (variables do that work, and an alias may be endless) and without dates (a date is text)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Raises ComposerError at an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed; use `variables`", mark)
        return super().compose_node(parent, index)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Document:
    """Raises BrokenDocument where the text is not one YAML mapping."""
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        data = loader.construct_document(root) if root else None
    except yaml.YAMLError as fault:
        raise BrokenDocument(*describe_yaml(fault, text)) from fault
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as fault:
        # PyYAML lets these out for a wrong explicit tag (`!!bool x`) and for very deep nesting.
        raise BrokenDocument(1, f"not YAML that can be read: {fault!r}") from fault
    if root is None or not isinstance(data, dict):
        raise BrokenDocument(1, "a constitution is a mapping of keys, and this is not")
    document = Document(data, {(): Place(root.start_mark.line + 1, 0)}, [])
    locate(root, (), document)
    return document


def describe_yaml(fault: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Line and message of a YAML fault; one at the end of the file is on its last line."""
    if not isinstance(fault, yaml.MarkedYAMLError) or not (mark := fault.problem_mark or fault.context_mark):
        position = getattr(fault, "position", 0)
        return text.count("\n", 0, position) + 1, f"not YAML: {getattr(fault, 'reason', fault)}"
    rows = text.splitlines() or [""]
    row = min(mark.line, len(rows) - 1)
    start = f" from line {fault.context_mark.line + 1}" if fault.context_mark else ""
    context = [f"{fault.context}{start}"] if fault.context else []
    hint = ["a text that begins with {{ needs quotes"] if re.search(r"[:-] +\{\{", rows[row]) else []
    return row + 1, f"not YAML: {', '.join([*context, str(fault.problem), *hint])}"


def locate(node: yaml.Node, path: KeyPath, document: Document) -> None:
    """Note the places of all that lies under `node`, and the keys that stand twice."""
    children: list[tuple[KeyPath, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        children = [((*path, i), item, item) for i, item in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        children = [((*path, str(key.value)), key, value) for key, value in node.value]
    for place, key, value in children:
        line = key.start_mark.line + 1
        if place in document.places:
            document.problems.append(Problem(place, f"the key stands twice, first on line {document.line(place)}"))
        literal = isinstance(value, yaml.ScalarNode) and value.style == "|"
        document.places[place] = Place(line, value.start_mark.line + 2 if literal else 0)
        locate(value, place, document)
