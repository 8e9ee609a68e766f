"""The dataset repository: every row that the models learn, with where it came from, as one config a fine-tuning.

The rows are Parquet, which the Hub shows without a conversion and `datasets` reads without guessing a type.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.errors import UserError
from selfalign.records import Record
from selfalign.release.facts import Facts
from selfalign.release.files import PlannedFile, shown
from selfalign.report.read import read_whole_records

if TYPE_CHECKING:
    import pyarrow

CONFIGS = {"engrave": "responses", "clone": "elaborations"}
"""Config -> the stage whose records it is made of."""
DEFAULT_CONFIG = "engrave"
ROW_GROUP = 5_000
"""Rows that are packed together: a page of the Hub's viewer unpacks one group."""
SPLITS = ("train", "validation")

FIELDS = {
    "key": "content hash that names the row; for an identity row, a hash of its text",
    "messages": "the conversation, roles `system`, `user` and `assistant`; only assistant turns are learnt",
    "source": "`responses` or `elaborations`: the stage that generated it; `identity`: written by a human",
    "thought": "the model's internal thought before the response, pruned before training; empty where there is none",
    "principles": "numbers of the principles that the thought cites",
    "type": "instruction type, where the instruction is topic-guided",
    "topic": "topic, where the instruction is topic-guided",
    "parents": "keys of the records that it was made from; of a response or an elaboration, its instruction's",
    "origin": "where the instruction is from, such as `dolly.jsonl:12`; empty where the model made it, or a human here",
    "licence": "that of the instruction’s source; empty where `origin` is",
    "model": "what wrote it: the base model, or a model of the run (`engraved`); empty for identity rows",
    "seed": "sampling seed, which follows from the key; 0 for identity rows",
}
TEXT = {"dtype": "string"}
FEATURES: list[dict[str, Any]] = [
    {"name": "key", **TEXT},
    {"name": "messages", "list": [{"name": "role", **TEXT}, {"name": "content", **TEXT}]},
    {"name": "source", **TEXT},
    {"name": "thought", **TEXT},
    {"name": "principles", "list": "int64"},
    {"name": "type", **TEXT},
    {"name": "topic", **TEXT},
    {"name": "parents", "list": "string"},
    {"name": "origin", **TEXT},
    {"name": "licence", **TEXT},
    {"name": "model", **TEXT},
    {"name": "seed", "dtype": "int64"},
]
"""The columns for `datasets`: told, since lists that happen to be empty in one split would be read as another type."""


class Split(NamedTuple):
    """One file of rows."""

    config: str
    name: str
    path: str
    rows: int
    identity_rows: int
    size: int


class Data(NamedTuple):
    """The planned files and what the card says of them; `sources` counts the rows by source and licence."""

    files: list[PlannedFile]
    splits: list[Split]
    sources: dict[tuple[str, str], int]

    @property
    def rows(self) -> int:
        """All rows of all configs."""
        return sum(split.rows for split in self.splits)

    @property
    def configs(self) -> list[str]:
        """The configs that have rows, in order."""
        return list(dict.fromkeys(split.config for split in self.splits))


def plan_data(facts: Facts) -> Data:
    """The rows of both configs; an empty split has no file."""
    files, splits, sources = [], [], Counter[tuple[str, str]]()
    for config, stage in CONFIGS.items():
        origins = provenance(facts, stage)
        for name in SPLITS:
            lines, source = split_of(facts, config, name)
            rows = [row_of(line, stage, origins) for line in lines]
            if rows:
                file = packed(f"dataset/data/{config}/{name}.parquet", rows, source)
                human = sum(row["source"] == "identity" for row in rows)
                sources.update((row["origin"].rpartition(":")[0], row["licence"]) for row in rows if row["origin"])
                files.append(file)
                splits.append(Split(config, name, file.path.removeprefix("dataset/"), len(rows), human, file.size))
    if not files:
        raise UserError(f"{facts.run.path}/datasets holds no rows", f"selfalign status {facts.run.path}")
    return Data(files, splits, dict(sources))


def split_of(facts: Facts, config: str, name: str) -> tuple[Iterable[dict[str, Any]], str]:
    """The rows of a split, and where they are from: what its training read, or would read."""
    ahead = facts.untrained
    if ahead and ahead.config == config:
        return ahead.splits[name], f"{facts.run.name}/{CONFIGS[config]}.jsonl"
    folder = facts.engraved_from if config == "engrave" else config
    source = facts.run.path / "datasets" / folder / f"{name}.jsonl"
    return lines_of(source), shown(source, facts.run.path)


def packed(path: str, rows: Sequence[dict[str, Any]], source: str) -> PlannedFile:
    """A file of rows as Parquet; the same rows give the same bytes."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(list(rows), schema=columns())
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd", row_group_size=ROW_GROUP, write_page_index=True)
    content = buffer.getvalue()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return PlannedFile(path, content, f"{source}, provenance added", len(content), text)


def columns() -> pyarrow.Schema:
    """The columns as Arrow types: those of `FEATURES`."""
    import pyarrow

    text = pyarrow.string()
    message = pyarrow.struct([("role", text), ("content", text)])
    kinds = {"messages": pyarrow.list_(message), "principles": pyarrow.list_(pyarrow.int64()), "seed": pyarrow.int64()}
    kinds["parents"] = pyarrow.list_(text)
    return pyarrow.schema([(feature["name"], kinds.get(feature["name"], text)) for feature in FEATURES])


def lines_of(source: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file; JSON escapes every line break but the newline, so no other ends a row."""
    if not source.is_file():
        return
    with source.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                row: dict[str, Any] = json.loads(line)
                yield {"key": row["key"], "messages": row["messages"]}
            except (ValueError, KeyError, TypeError) as fault:
                message = f"{source}:{number} is not a training row: {fault}"
                raise UserError(message, "restore the file from a backup") from fault


def provenance(facts: Facts, stage: str) -> dict[str, dict[str, Any]]:
    """Record key -> what a row tells of its record, over all rounds of the stage."""
    given = {
        record.key: record for record in read_whole_records(facts.run.path / "instructions.jsonl") if record.origin
    }
    return {
        record.key: origin_of(record, facts, given)
        for file in sorted(facts.run.path.glob(f"{stage}*.jsonl"))
        for record in read_whole_records(file)
    }


def origin_of(record: Record, facts: Facts, given: Mapping[str, Record]) -> dict[str, Any]:
    """The provenance columns of a record's row; `given` has the instructions from elsewhere by key.

    The base model goes by its public name, not by a path.
    """
    source = given.get(record.parents[0]) if record.parents else None
    model = str(record.engine.get("model", ""))
    return {
        "thought": record.thought,
        "principles": list(record.principles),
        "type": record.type,
        "topic": record.topic,
        "parents": list(record.parents),
        "origin": source.origin if source else "",
        "licence": source.licence if source else "",
        "model": facts.base.id if model == facts.recipe.base_model else model,
        "seed": record.seed,
    }


NO_ORIGIN: dict[str, Any] = {
    "thought": "",
    "principles": [],
    "type": "",
    "topic": "",
    "parents": [],
    "origin": "",
    "licence": "",
    "model": "",
    "seed": 0,
}


def row_of(line: dict[str, Any], stage: str, origins: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A training row with its record's provenance; a row without a record is one of the identity pairs."""
    origin = origins.get(line["key"])
    head = {"key": line["key"], "messages": line["messages"], "source": stage if origin else "identity"}
    return head | (origin or NO_ORIGIN)
