"""Checkpoints of a training: written whole or not at all, and taken up only by the training that wrote them.

A checkpoint is written in `.saving`, synced, and renamed to `checkpoint-N` as the last thing, so that what bears that
name is whole. Beside it stands what decides the loss curve (`training.json`): a training with other settings or other
rows does not go on from it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfalign.errors import RunFailed
from selfalign.records import content_hash, write_atomically
from selfalign.weights.folder import sync_files

SAVING = ".saving"
DESCRIPTION = "training.json"


class Checkpoints:
    """The checkpoints of one training in one directory."""

    def __init__(self, directory: Path, description: dict[str, Any], keep: int) -> None:
        self.directory = directory
        self.description = description
        self.keep = keep

    @property
    def saving(self) -> Path:
        """Where a checkpoint is written before it gets its name."""
        return self.directory / SAVING

    def whole(self) -> list[Path]:
        """All whole checkpoints, oldest first."""
        found = [path for path in self.directory.glob("checkpoint-*") if step_of(path) > 0]
        return sorted(found, key=step_of)

    def newest(self) -> Path | None:
        """The newest checkpoint of this very training, or None."""
        mine = content_hash(self.description)
        for path in reversed(self.whole()):
            if read_hash(path) == mine:
                return path
        return None

    def clear_others(self) -> None:
        """Remove what a killed training left half-written, and checkpoints of other settings or rows."""
        shutil.rmtree(self.saving, ignore_errors=True)
        mine = content_hash(self.description)
        for path in self.whole():
            if read_hash(path) != mine:
                shutil.rmtree(path, ignore_errors=True)

    def finish(self, step: int) -> None:
        """Give the checkpoint of `step` in `saving` its name, and remove the ones that are too many."""
        name = f"checkpoint-{step}"
        written = self.saving / name
        content = {"hash": content_hash(self.description), **self.description}
        write_atomically(written / DESCRIPTION, json.dumps(content, indent=1) + "\n")
        sync_files(written)
        shutil.rmtree(self.directory / name, ignore_errors=True)
        os.replace(written, self.directory / name)
        for old in self.whole()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def remove(self) -> None:
        """All of them: the training ended well."""
        shutil.rmtree(self.directory, ignore_errors=True)


def step_of(path: Path) -> int:
    """The step in a name such as `checkpoint-50`; 0 for another name."""
    step = path.name.removeprefix("checkpoint-")
    return int(step) if step.isdigit() else 0


def read_hash(checkpoint: Path) -> str:
    """What decides the loss curve of the training that wrote this, as a hash; empty where nothing tells."""
    try:
        return str(json.loads((checkpoint / DESCRIPTION).read_text(encoding="utf-8"))["hash"])
    except (OSError, ValueError, KeyError):
        return ""


@contextmanager
def disk_faults(directory: Path, step: int) -> Iterator[None]:
    """A checkpoint that cannot be written is a RunFailed; the ones before it stay.

    torch and safetensors report a full disk by errors of their own: RuntimeError and SafetensorError.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as fault:
        if isinstance(fault, RuntimeError) and not any(word in str(fault) for word in ("PytorchStream", "write")):
            raise
        shutil.rmtree(directory / SAVING, ignore_errors=True)
        raise RunFailed(
            f"cannot write the checkpoint of step {step} in {directory}: {' '.join(str(fault).split())[:200]}",
            "free some space and run the same command again: it goes on from the last whole checkpoint",
        ) from fault
