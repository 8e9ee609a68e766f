"""From records to training conversations: engrave prunes principles and thoughts away, clone alternates the styles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from selfalign.constitution.kept_thought import with_thought
from selfalign.constitution.schema import Constitution, StyleName
from selfalign.pipeline.decontaminate import Decontamination
from selfalign.recipe import Recipe
from selfalign.records import Message, Record, content_hash, write_atomically

CLONE_STYLES: tuple[StyleName, ...] = ("standard", "concise")
"""The clone learns under these, by record key; the verbose style that made its data is pruned (paper app. D.2)."""

OVERLAPS = "overlaps.jsonl"
"""Records that overlap a benchmark, with the verdict that says which and how."""


class TrainingRow(NamedTuple):
    """A conversation to learn, with the key of the record it came from."""

    key: str
    messages: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a line of a data set holds it."""
        return {"key": self.key, "messages": self.messages}


class Dataset(NamedTuple):
    """Rows to learn and rows to measure the loss on."""

    train: list[TrainingRow]
    validation: list[TrainingRow]


def identity_rows(constitution: Constitution, copies: int) -> list[TrainingRow]:
    """`copies` of every question and answer about the assistant's identity."""
    rows = []
    for copy in range(copies):
        for question, answer in constitution.identity_pairs:
            messages: tuple[Message, ...] = (
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            )
            rows.append(TrainingRow(content_hash(["identity", question, answer, copy]), messages))
    return rows


def engrave_rows(responses: Sequence[Record], keep_thoughts: bool = False) -> list[TrainingRow]:
    """(instruction, response): nothing of the constitution is left but what the response shows of it.

    With `keep_thoughts` the response begins with its thought.
    """
    return [TrainingRow(record.key, learnt(record, keep_thoughts)) for record in responses]


def learnt(record: Record, keep_thoughts: bool) -> tuple[Message, ...]:
    """A record's conversation, its thought in the last answer where that is kept."""
    if not (keep_thoughts and record.thought):
        return record.messages
    *asked, answer = record.messages
    thinking: Message = {"role": "assistant", "content": with_thought(record.thought, answer["content"])}
    return (*asked, thinking)


def clone_rows(
    elaborations: Sequence[Record], constitution: Constitution, keep_thoughts: bool = False
) -> list[TrainingRow]:
    """(style, instruction, elaboration), and the thought before it where the engraved model had one to keep."""
    rows = []
    for record in elaborations:
        style = CLONE_STYLES[int(content_hash(["style", record.key]), 16) % len(CLONE_STYLES)]
        system: Message = {"role": "system", "content": constitution.style(style)}
        rows.append(TrainingRow(record.key, (system, *learnt(record, keep_thoughts))))
    return rows


def split(rows: Sequence[TrainingRow], identity: Sequence[TrainingRow], validation_rows: int) -> Dataset:
    """Hold out up to `validation_rows` rows, chosen by key and at most a tenth; mix the rest with the identity rows."""
    ordered = sorted(rows, key=lambda row: content_hash(["validation", row.key]))
    held = min(validation_rows, len(ordered) // 10)
    return mixed(Dataset(ordered[held:], ordered[:held]), identity)


def later_round(
    responses: Sequence[Record], first: Sequence[Record], validation_rows: int, keep_thoughts: bool = False
) -> Dataset:
    """A further round's rows, measured on the validation rows of the first: the losses of all rounds compare.

    What answers an instruction of those rows is left out: the round would have seen it in training.
    """
    fixed = split(engrave_rows(first, keep_thoughts), (), validation_rows).validation
    held = {row.key for row in fixed}
    asked = {record.parents[0] for record in first if record.key in held}
    others = [record for record in responses if record.parents[0] not in asked]
    return Dataset(engrave_rows(others, keep_thoughts), fixed)


def mixed(dataset: Dataset, identity: Sequence[TrainingRow]) -> Dataset:
    """The same with the identity rows among those to learn."""
    train = sorted([*dataset.train, *identity], key=lambda row: content_hash(["order", row.key]))
    return dataset._replace(train=train)


def write_dataset(
    folder: Path, name: str, dataset: Dataset, recipe: Recipe, sieved: Decontamination | None = None
) -> None:
    """train.jsonl, validation.jsonl, their card, and the records that overlap a benchmark where there are any."""
    for part, rows in dataset._asdict().items():
        lines = [json.dumps(row.to_dict(), ensure_ascii=False) for row in rows]
        write_atomically(folder / f"{part}.jsonl", "".join(line + "\n" for line in lines))
    if sieved and sieved.overlapping:
        write_atomically(folder / OVERLAPS, "".join(record.to_json() + "\n" for record in sieved.overlapping))
    else:
        (folder / OVERLAPS).unlink(missing_ok=True)
    write_atomically(folder / "README.md", dataset_card(name, dataset, recipe, sieved))


def dataset_card(name: str, dataset: Dataset, recipe: Recipe, sieved: Decontamination | None = None) -> str:
    """README.md of a data set directory."""
    files = [{"split": part, "path": f"{part}.jsonl"} for part, rows in dataset._asdict().items() if rows]
    head = {"configs": [{"config_name": "default", "data_files": files}]}
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n# {name}\n\n"
        f"{len(dataset.train)} rows to learn and {len(dataset.validation)} to measure the loss on, made by selfalign "
        f"from `{recipe.base_model}` under the constitution `{recipe.constitution}`.\n"
        "Each row has a `messages` column and the `key` of the record it came from.\n\n"
        f"{sieved.in_words if sieved else 'It was not searched for texts of benchmarks.'}\n"
    )
