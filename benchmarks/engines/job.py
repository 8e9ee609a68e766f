"""What one process is asked to measure, as a JSON file: any environment reads it without importing selfalign."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Work:
    """Prompts under one shared prefix: as text, for engines that are given text, and as token ids for the others."""

    prefix: str
    prefix_ids: list[int]
    prompts: list[str]
    prompt_ids: list[list[int]]

    @property
    def sequences(self) -> list[list[int]]:
        """What the model reads for every prompt: the prefix's ids, then its own."""
        return [self.prefix_ids + ids for ids in self.prompt_ids]


@dataclass(frozen=True)
class Job:
    """One measurement: `measured` is timed after `warm_up`, which shares no text with it.

    `model` is what the user named, `model_path` the directory with its weights. Every prompt is continued by exactly
    `new_tokens` tokens. `options` are the peer's own flags.
    """

    model: str
    model_path: str
    dtype: str
    threads: int
    new_tokens: int
    temperature: float
    top_p: float
    measured: Work
    warm_up: Work
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """What `write` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        measured, warm_up = (Work(**found.pop(name)) for name in ("measured", "warm_up"))
        return cls(measured=measured, warm_up=warm_up, **found)


class Loaded(NamedTuple):
    """An engine that is ready: `run(work, new_tokens)` gives the number of new tokens of each prompt.

    `settings` are the flags it runs with, `versions` the packages behind it, `keeps` what must live as long as it.
    """

    run: Callable[[Work, int], list[int]]
    settings: dict[str, Any]
    versions: dict[str, str]
    keeps: object = None
