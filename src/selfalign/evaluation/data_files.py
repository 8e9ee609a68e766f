"""Where benchmark data are (named, $SELFALIGN_DATA, ./data, an installed package, the Hub), and how they are read."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.errors import UserError

Row = dict[str, Any]


class Wanted(NamedTuple):
    """A data set: its file names, the folder it may lie in, an installed package that has it, its place on the Hub."""

    name: str
    files: tuple[str, ...]
    folder: str
    package: str = ""
    hub: str = ""
    hub_config: str = ""
    hub_split: str = ""


def rows_of(wanted: Wanted, data: Path | None) -> list[Row]:
    """The rows of a data set, from the first place that has it. UserError where none has, or where it is none."""
    file = find_file(wanted, data)
    return read_rows(file) if file else hub_rows(wanted)


def find_file(wanted: Wanted, data: Path | None) -> Path | None:
    """The file of a data set on this machine. Where `data` is given nothing else is looked at."""
    if data is not None:
        if data.is_file():
            return data
        return file_in(wanted, data) or missing(wanted, data)
    for folder in places(wanted):
        if found := file_in(wanted, folder):
            return found
    return None


def missing(wanted: Wanted, data: Path) -> Path:
    """UserError: there is nothing in the place that the user named."""
    names = " or ".join(wanted.files)
    what = f"{data} has no {names}" if data.is_dir() else f"no file or directory {data}"
    raise UserError(f"{wanted.name}: {what}", "name the file, or a directory that holds it: --data DIR")


def places(wanted: Wanted) -> Iterator[Path]:
    """Where to look, in order."""
    if named := os.environ.get("SELFALIGN_DATA"):
        yield Path(named)
    yield Path("data")
    spec = importlib.util.find_spec(wanted.package) if wanted.package else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield Path(folder)
        yield Path(folder).parent  # a checkout that was installed in place has its data beside the package


def file_in(wanted: Wanted, folder: Path) -> Path | None:
    """The data set's file in `folder`, in the data set's own folder there, or in data/."""
    for name in wanted.files:
        for place in (folder, folder / wanted.folder, folder / "data"):
            if (place / name).is_file():
                return place / name
    return None


def read_rows(file: Path) -> list[Row]:
    """The rows of a .json (a list, or `examples` of a mapping), .jsonl, .csv or .parquet file."""
    try:
        rows = READERS.get(file.suffix, read_json)(file)
    except (ValueError, OSError, RecursionError, csv.Error) as fault:  # the third: brackets nested by thousands
        raise UserError(f"{file} cannot be read: {fault}", "download the file again") from fault
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} is no list of questions", "give the benchmark's own file")
    return rows


def read_json(file: Path) -> Any:
    """A list of rows, or BIG-bench's form with the rows under `examples`."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return content.get("examples") if isinstance(content, dict) else content


def read_jsonl(file: Path) -> list[Any]:
    """A row a line."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def read_csv(file: Path) -> list[Any]:
    """A row a line, named by the head."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def read_parquet(file: Path) -> list[Any]:
    """A file that was saved from the Hub."""
    from pyarrow import parquet

    rows: list[Any] = parquet.read_table(file).to_pylist()  # pyarrow's own faults are ValueErrors
    return rows


READERS = {".json": read_json, ".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}


def hub_rows(wanted: Wanted) -> list[Row]:
    """The rows from the Hub, or from its cache on this machine. UserError where there is no way to them."""
    where = f"put {' or '.join(wanted.files)} into ./data, or name its place: --data DIR"
    if not wanted.hub:
        raise UserError(f"{wanted.name}: no data found", where)
    import datasets

    try:
        loaded = datasets.load_dataset(wanted.hub, wanted.hub_config, split=wanted.hub_split)
    except Exception as fault:  # the network, the cache, the Hub and the data set's form fail in many ways
        raise UserError(
            f"{wanted.name}: no data found here, and {wanted.hub} cannot be got from the Hub: {type(fault).__name__}",
            f"{where}, set SELFALIGN_DATA, or check the network and HF_HUB_OFFLINE",
        ) from fault
    return [dict(row) for row in loaded]


def choices_of(targets: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Candidates and labels of `{candidate: label}` or of the Hub's `{choices: [...], labels: [...]}`.

    ValueError says what is wrong.
    """
    if not isinstance(targets, dict) or not targets:
        raise ValueError("it has no candidates")
    if set(targets) == {"choices", "labels"} and isinstance(targets["choices"], Sequence):
        pairs = list(zip(targets["choices"], targets["labels"], strict=True))
    else:
        pairs = list(targets.items())
    if not pairs:
        raise ValueError("it has no candidates")
    for number, (text, label) in enumerate(pairs, 1):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"candidate {number} is empty")
        if label not in (0, 1):
            raise ValueError(f"the label of candidate {number} is {label!r}, not 0 or 1")
    return tuple(text for text, _ in pairs), tuple(int(label) for _, label in pairs)
