"""A directory of results that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfalign.errors import UserError


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A temporary directory beside `output` that gets its name once the block has ended without a fault.

    An `output` that is there already, and not empty, is a UserError; so is a disk that fills up, and then nothing
    stays behind.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is there already", "name a new directory, or remove that one")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        sync_files(temporary)
        if output.exists():
            output.rmdir()
        temporary.rename(output)
    except OSError as fault:
        raise UserError(
            f"cannot write {output}: {fault.strerror or fault}", "free some space and run the same command again", 1
        ) from fault
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_space(folder: Path, nbytes: int, output: Path) -> None:
    """UserError where the disk has less than `nbytes` left: better now than after hours."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise UserError(
            f"{output} needs {nbytes / 1e9:.2f} GB, and its disk has {free / 1e9:.2f} GB left",
            "free some space, or name a directory on another disk",
            exit_code=1,
        )


def sync_files(directory: Path) -> None:
    """Wait until every file in `directory` is on the disk."""
    for file in directory.rglob("*"):
        if file.is_file():
            sync(file)


def sync(file: Path) -> None:
    """Wait until the file is on the disk."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
