"""A training as a file: what a process that was started for it needs to know, in one JSON object.

The rows are tokenized once, by the process that starts the others, and lie beside the job as `rows.safetensors`; the
others map that file into memory. So nothing is tokenized twice, and no rank waits for another to fill a cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

from selfalign.constitution.chat_format import ChatFormat, Row
from selfalign.recipe import TrainingOptions
from selfalign.records import Message, write_atomically
from selfalign.training.base_model import load_tokenizer, local_directory
from selfalign.training.build import TokenizedRows
from selfalign.training.rows import Conversation
from selfalign.training.train import tokenize

PATHS = ("base_model", "dataset", "output", "work", "checkpoints", "logs")


@dataclass(frozen=True)
class TrainingJob:
    """One training. `dataset` holds `train.jsonl` and `validation.jsonl`; `work` is a directory for its ranks.

    `checkpoints` takes the training's own checkpoints, `logs` TensorBoard's files.
    """

    stage: str
    base_model: Path
    dataset: Path
    options: TrainingOptions
    chat_format: ChatFormat
    output: Path
    work: Path
    checkpoints: Path
    logs: Path
    seed: int
    dtype: str = "auto"

    def conversations(self, part: str) -> list[Conversation]:
        """The rows of `train` or `validation`, as the runner wrote them."""
        text = (self.dataset / f"{part}.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line]
        return [(row["key"], tuple(messages(row["messages"]))) for row in rows]

    def tokenized(self) -> TokenizedRows:
        """Both sets as token ids and labels."""
        tokenizer = load_tokenizer(local_directory(self.base_model))
        train, validation = self.conversations("train"), self.conversations("validation")
        return tokenize(tokenizer, self.chat_format, train, validation, self.options.max_length)

    def save(self) -> Path:
        """Write `work/job.json`, which `load` reads."""
        values = asdict(self) | {name: str(getattr(self, name).resolve()) for name in PATHS}
        values["options"] = self.options.model_dump(mode="json")
        path = self.work / "job.json"
        write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> TrainingJob:
        """The inverse of `save`."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values |= {name: Path(values[name]) for name in PATHS}
        form = values["chat_format"]
        values["chat_format"] = ChatFormat(**form | {"special_tokens": tuple(form["special_tokens"])})
        return cls(**values | {"options": TrainingOptions.model_validate(values["options"])})


def messages(rows: list[dict[str, str]]) -> Iterator[Message]:
    """The turns of one conversation."""
    for row in rows:
        yield {"role": row["role"], "content": row["content"]}


class MappedRows(Sequence[Row]):
    """Rows that stay in their file until they are asked for: ids and labels end to end, and where each row ends."""

    def __init__(self, input_ids: Any, labels: Any, ends: Any) -> None:
        self.input_ids, self.labels = input_ids, labels
        self.ends: list[int] = ends.tolist()

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        end = self.ends[index]  # raises IndexError beyond the last row, which ends an iteration
        start = self.ends[index - 1] if index % len(self) else 0
        return Row(self.input_ids[start:end].tolist(), self.labels[start:end].tolist())


def save_rows(rows: TokenizedRows, path: Path) -> None:
    """Write both sets to one safetensors file: 8 bytes a token."""
    from itertools import accumulate, chain

    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for part, some in rows._asdict().items():
        tensors |= {
            f"{part}.input_ids": torch.tensor([*chain.from_iterable(row.input_ids for row in some)], dtype=torch.int32),
            f"{part}.labels": torch.tensor([*chain.from_iterable(row.labels for row in some)], dtype=torch.int32),
            f"{part}.ends": torch.tensor([*accumulate(len(row.input_ids) for row in some)], dtype=torch.int64),
        }
    save_file(tensors, path)


def load_rows(path: Path) -> TokenizedRows:
    """Both sets, mapped into memory."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    parts = [
        MappedRows(*(tensors[f"{part}.{name}"] for name in ("input_ids", "labels", "ends")))
        for part in TokenizedRows._fields
    ]
    return TokenizedRows(*parts)
