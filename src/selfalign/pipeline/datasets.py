"""From records to training conversations: engrave prunes principles and thoughts away, clone alternates the styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import yaml

from selfalign.constitution.schema import Constitution, StyleName
from selfalign.recipe import Recipe
from selfalign.records import Message, Record, content_hash

CLONE_STYLES: tuple[StyleName, ...] = ("standard", "concise")
"""The clone learns under these, by record key; the verbose style that made its data is pruned (paper app. D.2)."""


class TrainingRow(NamedTuple):
    """A conversation to learn, with the key of the record it came from."""

    key: str
    messages: tuple[Message, ...]


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


def engrave_rows(responses: Sequence[Record]) -> list[TrainingRow]:
    """(instruction, response): nothing of the constitution is left but what the response shows of it."""
    return [TrainingRow(record.key, record.messages) for record in responses]


def clone_rows(elaborations: Sequence[Record], constitution: Constitution) -> list[TrainingRow]:
    """(style, instruction, elaboration)."""
    rows = []
    for record in elaborations:
        style = CLONE_STYLES[int(content_hash(["style", record.key]), 16) % len(CLONE_STYLES)]
        system: Message = {"role": "system", "content": constitution.style(style)}
        rows.append(TrainingRow(record.key, (system, *record.messages)))
    return rows


def split(rows: Sequence[TrainingRow], identity: Sequence[TrainingRow], validation_rows: int) -> Dataset:
    """Hold out up to `validation_rows` rows, chosen by key and at most a tenth; mix the rest with the identity rows."""
    ordered = sorted(rows, key=lambda row: content_hash(["validation", row.key]))
    held = min(validation_rows, len(ordered) // 10)
    train = sorted([*ordered[held:], *identity], key=lambda row: content_hash(["order", row.key]))
    return Dataset(train, ordered[:held])


def dataset_card(name: str, dataset: Dataset, recipe: Recipe) -> str:
    """README.md of a data set directory."""
    files = [{"split": part, "path": f"{part}.jsonl"} for part, rows in dataset._asdict().items() if rows]
    head = {"configs": [{"config_name": "default", "data_files": files}]}
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n# {name}\n\n"
        f"{len(dataset.train)} rows to learn and {len(dataset.validation)} to measure the loss on, made by selfalign "
        f"from `{recipe.base_model}` under the constitution `{recipe.constitution}`.\n"
        "Each row has a `messages` column and the `key` of the record it came from.\n"
    )
