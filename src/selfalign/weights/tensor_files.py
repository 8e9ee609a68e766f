"""Files of weights, safetensors or torch's own, opened by one function; and the index that says which file has what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError
from selfalign.weights.pickles import read_pickle

if TYPE_CHECKING:
    import torch

DTYPE_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
}
"""torch's name of a dtype -> safetensors'."""


def open_tensors(file: Path) -> Any:
    """A file of weights, mapped: `keys()`, `get_tensor(name)`, and `get_slice(name)` for shape and dtype alone."""
    return open_safetensors(file) if file.suffix == ".safetensors" else PickledTensors(file)


def open_safetensors(file: Path) -> Any:
    """A safetensors file, mapped; one that is truncated or of another kind is a UserError."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as fault:
        raise UserError(f"{file} cannot be read as safetensors: {fault}", "copy or download the file again") from fault


class PickledTensors:
    """A file in torch's own format, with the functions of a safetensors file."""

    def __init__(self, file: Path) -> None:
        self.tensors = read_pickle(file)

    def keys(self) -> list[str]:
        """The tensors' names."""
        return list(self.tensors)

    def get_tensor(self, name: str) -> torch.Tensor:
        """The values."""
        return self.tensors[name]

    def get_slice(self, name: str) -> PickledSlice:
        """What is known without the values."""
        return PickledSlice(self.tensors[name])


class PickledSlice:
    """Shape and dtype, told as safetensors tells them."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def get_shape(self) -> list[int]:
        """The dimensions."""
        return list(self.tensor.shape)

    def get_dtype(self) -> str:
        """Its name in a safetensors header, or torch's where it has none that is known here."""
        name = str(self.tensor.dtype).removeprefix("torch.")
        return DTYPE_NAMES.get(name, name)


def read_index(file: Path) -> dict[str, str]:
    """Tensor name -> file name, from an index of shards. UserError where it says no such thing."""
    try:
        places = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            raise ValueError("its weight_map names no files")
    except (ValueError, KeyError, TypeError) as fault:
        raise UserError(f"{file} is no index of weights: {fault}", "download the model again") from fault
    return places
