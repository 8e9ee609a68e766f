"""What one of the original's files says of a constitution, each part with the line that it stands on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selfalign.constitution.document import KeyPath
from selfalign.errors import UserError


@dataclass
class Piece:
    """The parts of a constitution that a file holds.

    `values` maps paths such as `("principles",)` or `("styles", "verbose")` to plain data, `lines` maps the paths of
    what stands in them to lines of `file`. `codename` is what the file calls the assistant, or empty where it does not.
    `notes` say what the file has beyond that.
    """

    file: str
    codename: str = ""
    values: dict[KeyPath, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, path: KeyPath, value: Any, line: int) -> None:
        """Take up a whole part."""
        self.values[path] = value
        self.lines[path] = line


def broken(file: str, line: int, message: str) -> UserError:
    """The error of a file that is not of its form."""
    return UserError(f"{file}:{line}: {message}", f"mend {file}, or leave it out of the import")


def one_line(text: str) -> str:
    """The text with its line breaks as blanks."""
    return " ".join(row.strip() for row in text.split("\n") if row.strip())


def text_at(row: Any, key: str, file: str, line: int) -> str:
    """The text under `key` of a JSON object; anything else there is an error."""
    if not isinstance(row, dict):
        raise broken(file, line, f"{shown(row)} is no JSON object")
    value = row.get(key)
    if not isinstance(value, str):
        raise broken(file, line, f"`{key}` must be text, not {shown(value)}" if key in row else f"no key `{key}`")
    return value


def shown(value: Any) -> str:
    """A JSON value, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def json_lines(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """(line, value) of a JSON Lines text; blank lines are passed over."""
    for line, row in enumerate(text.split("\n"), 1):
        if row.strip():
            yield line, parse_json(row, file, line)


def parse_json(text: str, file: str, line: int = 1) -> Any:
    """The JSON value of a text that begins on `line`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        raise broken(file, line + fault.lineno - 1, f"not JSON: {fault.msg} at column {fault.colno}") from fault
    except RecursionError as fault:
        raise broken(file, line, "not JSON that can be read: nested too deeply") from fault


def json_items(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """(line, item) of a JSON text that is one list."""
    if not isinstance(parse_json(text, file), list):
        raise broken(file, 1, "must be a JSON list")
    decoder, at, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    while text[at := skip_separators(text, at)] != "]":
        line, counted = line + text.count("\n", counted, at), at
        value, at = decoder.raw_decode(text, at)
        yield line, value


def skip_separators(text: str, at: int) -> int:
    """The place of the next item, or of the bracket that ends the list."""
    while text[at] in " \t\r\n,":
        at += 1
    return at
