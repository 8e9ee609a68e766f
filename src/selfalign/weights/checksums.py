"""SHA-256 of weight files (as `sha256sum` prints it) and of single tensors (whatever file they lie in)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from selfalign.weights.checkpoint import as_bytes
from selfalign.weights.tensor_files import DTYPE_NAMES

if TYPE_CHECKING:
    import torch


def file_checksums(*directories: Path) -> list[dict[str, str]]:
    """For each directory: weight file -> checksum, by name."""
    return [
        {file.name: file_checksum(file) for file in sorted(directory.glob("*")) if is_weights(file)}
        for directory in directories
    ]


def is_weights(file: Path) -> bool:
    """Whether the file holds weights."""
    return file.suffix in (".safetensors", ".bin") and file.is_file()


def file_checksum(file: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tensor_checksum(tensor: torch.Tensor) -> str:
    """SHA-256 of dtype, shape and values: the same in whatever shard the tensor lies."""
    digest = hashlib.sha256(f"{DTYPE_NAMES[str(tensor.dtype).removeprefix('torch.')]} {tuple(tensor.shape)} ".encode())
    digest.update(as_bytes(tensor))
    return digest.hexdigest()
