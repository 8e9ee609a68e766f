"""The files of a release: planned before any is written, so that a dry run shows what a release would do."""

from __future__ import annotations

import fnmatch
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.errors import UserError

LOCAL_KEYS = ("is_local", "local_files_only", "name_or_path")
"""What transformers notes of this machine in a tokenizer's settings."""
BASE_KEYS = ("base_model_name_or_path", "_model_name_or_path")


class PlannedFile(NamedTuple):
    """A file to be: `content` is its bytes, or the file to copy; None stands for weights that merging will write.

    `path` is relative to the release; `origin` says for the eye where it is from; `size` is in bytes. `scanned` is the
    text to look through for secrets, where `content` is compressed and would hide them.
    """

    path: str
    content: bytes | Path | None
    origin: str
    size: int
    scanned: bytes | None = None


def written(path: str, text: str, origin: str) -> PlannedFile:
    """A file of text that the release makes."""
    content = text.encode()
    return PlannedFile(path, content, origin, len(content))


def copied(path: str, source: Path, run: Path) -> PlannedFile:
    """A file that goes along as it is."""
    return PlannedFile(path, source, shown(source, run), source.stat().st_size)


def shown(source: Path, run: Path) -> str:
    """A source for the eye: inside the run, by its place there."""
    return f"{run.name}/{source.relative_to(run)}" if source.is_relative_to(run) else source.name


def settings_file(path: str, source: Path, run: Path, base_id: str) -> PlannedFile:
    """A JSON file of settings without what only holds on this machine: paths become the base model's Hub id."""
    try:
        settings: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise UserError(f"{source} is not JSON: {fault}", "restore the file from a backup") from fault
    kept = {name: base_id if name in BASE_KEYS else value for name, value in settings.items() if name not in LOCAL_KEYS}
    return written(
        path, json.dumps(kept, indent=2, ensure_ascii=False) + "\n", f"{shown(source, run)}, paths taken out"
    )


def matching(directory: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files of a directory whose names fit a pattern, sorted."""
    return sorted(
        file
        for file in directory.iterdir()
        if file.is_file() and any(fnmatch.fnmatchcase(file.name, pattern) for pattern in patterns)
    )


def write_file(folder: Path, file: PlannedFile) -> None:
    """Put one planned file into `folder`; what merging writes is there already."""
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file.content, Path):
        shutil.copyfile(file.content, target)
    elif file.content is not None:
        target.write_bytes(file.content)


def table(files: list[PlannedFile]) -> str:
    """Every file with its size and where it is from."""
    width = max(len(file.path) for file in files)
    rows = [f"{file.path:<{width}}  {size(file.size):>9}  {file.origin}" for file in files]
    total = f"{'total':<{width}}  {size(sum(file.size for file in files)):>9}  {len(files)} files"
    return "\n".join([*rows, total])


def size(number: float) -> str:
    """Bytes in the unit that fits; 1 kB is 1,000 bytes, as the Hub shows it."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
