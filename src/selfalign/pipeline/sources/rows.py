"""The rows of a source, one by one, from files of several kinds or from the Hub.

Nothing is read as a whole: what is in memory is a row, or a batch of them. A row that cannot be read is told with its
place and passed over; a file that cannot be read ends the run before it begins.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.errors import UserError
from selfalign.pipeline.sources.lines import CHUNK, MAX_ROW, lines_of, opened, text_of, too_long
from selfalign.recipe import SourceOptions

BATCH = 128
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COLUMNS = (
    *("conversations", "messages", "instruction", "input", "context", "question", "prompt", "text", "query"),
    *("role", "parent_id", "deleted", "message_tree_id", "response"),
)
"""Columns of a Parquet file that are looked at, where it has any of them."""


class Row(NamedTuple):
    """A row and its place (`file.jsonl:12`), or why it cannot be read."""

    place: str
    value: Any
    fault: str = ""


def rows_of(source: SourceOptions) -> Iterator[Row]:
    """Every row. UserError where there is no such source, or a file of it cannot be read."""
    path = expanded(source.path)
    kind = kind_of_place(path)
    if kind == "file":
        yield from file_rows(path, path.name)
    elif kind == "folder":
        for file in files_in(path):
            yield from file_rows(file, str(file.relative_to(path)))
    elif kind == "other":
        raise UserError(f"source {source.path!r} is no regular file", "name a file, a folder or a Hub id")
    elif HUB_ID.fullmatch(source.path) and kind_of(path) not in READERS:
        yield from hub_rows(source)
    else:
        raise UserError(f"no source at {source.path!r}: no such file or folder, and no Hub id", "mend the recipe")


def expanded(path: str) -> Path:
    """The path with `~` as a home directory, where it names one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user who is not known here
        return Path(path)


def kind_of_place(path: Path) -> str:
    """`file`, `folder`, `other` (a pipe, a device), or empty where there is nothing of that name."""
    try:
        return "file" if path.is_file() else "folder" if path.is_dir() else "other" if path.exists() else ""
    except OSError:  # a name too long, a folder that may not be entered
        return ""


def files_in(folder: Path) -> list[Path]:
    """The files of a folder that can be read, sorted; hidden ones are left alone."""
    inside = (file for file in sorted(folder.rglob("*")) if kind_of(file) in READERS and file.is_file())
    files = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not files:
        raise UserError(f"source {str(folder)!r} has no file of {', '.join(READERS)}", "name the file itself")
    return files


def kind_of(path: Path) -> str:
    """The suffix that tells how to read a file; `.gz` may stand behind it."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def file_rows(path: Path, name: str) -> Iterator[Row]:
    """The rows of one file; places begin with `name`, whatever is in it made harmless to print."""
    reader = READERS.get(kind_of(path))
    if reader is None:
        raise UserError(
            f"source {str(path)!r} is none of {', '.join(READERS)}", "convert it, or rename it to what it is"
        )
    try:
        yield from reader(path, re.sub(r"[^\w./ ()+,@=-]", "?", name))
    except (OSError, EOFError, csv.Error) as fault:  # pyarrow's own faults are ValueErrors, caught where it is called
        raise UserError(f"source {str(path)!r} cannot be read: {fault}", "get the file again") from fault


def jsonl_rows(path: Path, name: str) -> Iterator[Row]:
    """A JSON value a line."""
    for number, text in lines_of(path):
        place = f"{name}:{number}"
        if text is None:
            yield Row(place, None, too_long())
        elif text.strip():
            yield parsed(place, text)


def parsed(place: str, text: str) -> Row:
    """The row of a JSON text."""
    try:
        return Row(place, json.loads(text))
    except ValueError as fault:
        return Row(place, None, f"not JSON: {fault}")
    except RecursionError:
        return Row(place, None, "nested too deeply")


def json_rows(path: Path, name: str) -> Iterator[Row]:
    """The items of one list, or else a JSON value a line, which many name `.json` too."""
    with opened(path) as stream, text_of(stream) as reader:
        head = reader.read(CHUNK).lstrip()
    if head.startswith("["):
        yield from list_rows(path, name)
    elif head.startswith("{") and not parsed(name, head.split("\n", 1)[0]).fault:
        yield from jsonl_rows(path, name)
    else:
        raise UserError(f"{path}:1: neither a JSON list nor a JSON value a line", "make it a list, or .jsonl")


def list_rows(path: Path, name: str) -> Iterator[Row]:
    """The items of a JSON list, decoded one by one from a window of the file."""
    with opened(path) as stream, text_of(stream) as reader:
        window, line, counted = reader.read(CHUNK), 1, 0
        at = window.index("[") + 1
        while True:
            at = SEPARATORS.match(window, at).end()  # type: ignore[union-attr]  # it matches nothing too
            line, counted = line + window.count("\n", counted, at), at
            if window.startswith("]", at):
                return
            item = decode_item(window, at)
            if item.end:
                yield Row(f"{name}:{line}", item.value)
                at = item.end
                continue
            more = reader.read(max(CHUNK, len(window) - at)) if len(window) - at < MAX_ROW else ""
            if not more:
                raise UserError(f"{path}:{line}: {item.fault}", "get the file again, or take the item out")
            window, at, counted = window[at:] + more, 0, 0


SEPARATORS = re.compile(r"[ \t\r\n,]*")
DECODER = json.JSONDecoder()


class Item(NamedTuple):
    """An item of a list and where it ends; `end` is 0 where the window holds no whole one, and `fault` says why."""

    value: Any = None
    end: int = 0
    fault: str = ""


def decode_item(window: str, at: int) -> Item:
    """The item that begins at `at`."""
    try:
        return Item(*DECODER.raw_decode(window, at))
    except ValueError as fault:
        return Item(fault=f"not JSON: {getattr(fault, 'msg', fault)}")
    except RecursionError:
        return Item(fault="nested too deeply")


def csv_rows(path: Path, name: str) -> Iterator[Row]:
    """A row a record, named by the head; a cell may hold line breaks."""
    csv.field_size_limit(MAX_ROW)
    texts = (line.text for line in lines_of(path) if line.text is not None)
    reader = csv.DictReader(texts, delimiter="\t" if kind_of(path) == ".tsv" else ",")
    for row in reader:
        yield Row(f"{name}:{reader.line_num}", row)


def parquet_rows(path: Path, name: str) -> Iterator[Row]:
    """Rows in batches, numbered from 1."""
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        columns = [column for column in COLUMNS if column in file.schema_arrow.names] or None
        rows = (row for batch in file.iter_batches(BATCH, columns=columns) for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield Row(f"{name}:{number}", row)
    except ValueError as fault:
        raise UserError(f"source {str(path)!r} is no Parquet file: {fault}", "get the file again") from fault


def text_rows(path: Path, name: str) -> Iterator[Row]:
    """A line is a row."""
    for number, text in lines_of(path):
        if text is None:
            yield Row(f"{name}:{number}", None, too_long())
        elif text.strip():
            yield Row(f"{name}:{number}", text)


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".json": json_rows,
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
    ".txt": text_rows,
}


def hub_rows(source: SourceOptions) -> Iterator[Row]:
    """The rows of a split on the Hub, streamed, or of its copy in the cache of this machine."""
    import datasets

    try:
        streaming = not datasets.config.HF_HUB_OFFLINE  # which needs the cache
        rows = datasets.load_dataset(source.path, source.config or None, split=source.split, streaming=streaming)
        for number, row in enumerate(rows, 1):
            yield Row(f"{source.path}:{source.split}:{number}", row)
    except Exception as fault:  # the network, the Hub and the data set's form fail in many ways
        raise UserError(
            f"source {source.path!r}: no such file here, and not to be had from the Hub: {type(fault).__name__}: "
            f"{str(fault).splitlines()[0][:200] if str(fault) else ''}",
            "check the name, split and config, the network, HF_TOKEN and HF_HUB_OFFLINE",
        ) from fault
