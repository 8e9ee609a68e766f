"""Weights in torch's own format (`.bin`, `.pth`), which is a pickle: tensors are read, and code in it is never run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    import torch

OF_OLD = b"\x80"
"""The first byte of a pickle that is not inside a zip file: what torch wrote before 1.6."""


def read_pickle(file: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor, mapped where the file can be: those of a zip file are read when they are asked for.

    UserError for code or other objects in it, for a file of another kind, and for a truncated one.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol, beside the fault that is told
            content: Any = torch.load(file, map_location="cpu", mmap=zipfile.is_zipfile(file), weights_only=True)
    except pickle.UnpicklingError as fault:
        raise refusal(file) from fault
    except (RuntimeError, OSError, ValueError, EOFError, IndexError) as fault:
        reason = next(iter(str(fault).splitlines()), type(fault).__name__)[:120]
        raise UserError(f"{file} cannot be read: {reason}", "it is truncated: copy or download it again") from fault
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{file} holds {type(content).__name__}, no table of tensors", "name a directory of weights")
    return content


def refusal(file: Path) -> UserError:
    """What is wrong with a file that holds more than tensors, or is no pickle at all, such as a pointer of git-lfs."""
    with file.open("rb") as handle:
        start = handle.read(40)
    if zipfile.is_zipfile(file) or start.startswith(OF_OLD):
        return UserError(
            f"{file} holds code or objects other than tensors; refused, and nothing of it was run",
            "ask its author for safetensors, or get it from a source you trust",
        )
    return UserError(f"{file} holds no weights: it begins with {start!r}", "download the file itself (git lfs pull)")
