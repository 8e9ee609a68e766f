"""A model directory's weights, read and written tensor by tensor: no more than a few tensors are in memory at once.

`safetensors.torch.save_file` needs every tensor of a file in memory. The format is simple enough to be written as a
stream: eight bytes with the header's length, the header in JSON, then the tensors' bytes in the header's order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from selfalign.errors import UserError
from selfalign.weights.tensor_files import DTYPE_NAMES, open_tensors, read_index

if TYPE_CHECKING:
    import torch

INDEX = "model.safetensors.index.json"
FORMATS = (("model.safetensors", INDEX), ("pytorch_model.bin", "pytorch_model.bin.index.json"))
"""The one file, or else the index of the shards, in the order in which transformers looks for them."""
SHARD_BYTES = 2 * 1024**3
"""The largest shard written, unless one tensor is larger: small enough to upload and to check in one go."""
HEADER_ALIGNMENT = 8


class Entry(NamedTuple):
    """A tensor to be written: its name, shape and dtype are known before its values are."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its size on disk."""
        itemsize: int = self.dtype.itemsize
        return math.prod(self.shape) * itemsize


Values = Callable[[str], "torch.Tensor | Iterable[torch.Tensor]"]
"""Tensor name -> its values, whole or as blocks of rows one after the other."""


class Checkpoint:
    """The weights of a model directory, safetensors or else torch's own files. Nothing is read before it is asked for.

    A UserError names a shard that is missing, truncated, exchanged for another, or holds code.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.places = self._find()
        """Tensor name -> file name, in the order of the files."""
        self._open: tuple[str, Any] | None = None

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        """All tensors, file by file."""
        return list(self.places)

    def entry(self, name: str) -> Entry:
        """Shape and dtype, without the values."""
        import torch

        part = self._handle(self.places[name]).get_slice(name)
        dtypes = {short: getattr(torch, long) for long, short in DTYPE_NAMES.items()}
        if part.get_dtype() not in dtypes:
            raise UserError(
                f"{self.directory / self.places[name]}: {name} has dtype {part.get_dtype()}", "name the 16-bit weights"
            )
        return Entry(name, tuple(part.get_shape()), dtypes[part.get_dtype()])

    def tensor(self, name: str) -> torch.Tensor:
        """The values, a view of the mapped file: copy before changing them, and before the checkpoint is closed."""
        tensor: torch.Tensor = self._handle(self.places[name]).get_tensor(name)
        return tensor

    def check(self) -> None:
        """Open every file once: a UserError for the first that is not whole."""
        for file in dict.fromkeys(self.places.values()):
            self._handle(file)

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def close(self) -> None:
        """Let go of the open file, and of its pages in memory."""
        self._open = None

    def _handle(self, file: str) -> Any:
        """One file is open at a time: the pages of a closed one do not count as this process's memory."""
        if self._open is None or self._open[0] != file:
            self.close()
            handle = open_tensors(self.directory / file)
            self._require_all(file, set(handle.keys()))
            self._open = (file, handle)
        return self._open[1]

    def _require_all(self, file: str, held: set[str]) -> None:
        """UserError where a shard has not the tensors that the index finds in it."""
        lacking = sorted(name for name, place in self.places.items() if place == file and name not in held)
        if lacking:
            raise UserError(
                f"{self.directory / file} lacks {lacking[0]}, which their index says it holds",
                "shards were exchanged, or are of two models: download them again",
            )

    def _find(self) -> dict[str, str]:
        for whole, index in FORMATS:
            if (self.directory / whole).is_file():
                return dict.fromkeys(open_tensors(self.directory / whole).keys(), whole)
            if (self.directory / index).is_file():
                return self._indexed(index)
        if any(self.directory.glob("model-*-of-*.safetensors")):
            raise UserError(f"{self.directory} has shards, and lacks {INDEX}", "download that file too")
        raise UserError(f"{self.directory} has no weights (model*.safetensors)", "selfalign models")

    def _indexed(self, index: str) -> dict[str, str]:
        places = read_index(self.directory / index)
        missing = sorted({file for file in places.values() if not (self.directory / file).is_file()})
        if missing:
            raise UserError(f"{self.directory} lacks {', '.join(missing)}", "download the missing shard")
        return dict(sorted(places.items(), key=lambda place: place[1]))


def write_checkpoint(
    directory: Path,
    entries: Sequence[Entry],
    tensor_of: Values,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write `entries` into `directory` as safetensors, in shards with an index where one file would be too large.

    `tensor_of(name)` is asked for each tensor once, in order, and may forget it afterwards. Where it gives blocks of
    rows, no more than one of them need be in memory.
    """
    shards = list(split_shards(entries, shard_bytes))
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        write_shard(directory / name, shard, tensor_of)
    if len(shards) > 1:
        places = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        total = sum(entry.nbytes for entry in entries)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def split_shards(entries: Sequence[Entry], shard_bytes: int) -> Iterator[list[Entry]]:
    """Runs of entries of at most `shard_bytes` together; a larger tensor has a shard to itself."""
    shard: list[Entry] = []
    size = 0
    for entry in entries:
        if shard and size + entry.nbytes > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(entry)
        size += entry.nbytes
    if shard:
        yield shard


def write_shard(file: Path, entries: Sequence[Entry], tensor_of: Values) -> None:
    """One safetensors file, as a stream."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        name = DTYPE_NAMES[str(entry.dtype).removeprefix("torch.")]
        end = offset + entry.nbytes
        header[entry.name] = {"dtype": name, "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    with file.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little"))
        handle.write(text)
        for entry in entries:
            write_tensor(handle, entry, tensor_of(entry.name))


def write_tensor(handle: BinaryIO, entry: Entry, values: torch.Tensor | Iterable[torch.Tensor]) -> None:
    """One tensor's bytes, whole or block by block; ValueError where they are not what `entry` announced."""
    import torch

    blocks: Iterable[Any] = [values] if isinstance(values, torch.Tensor) else values
    written = 0
    for block in blocks:
        fits = block.dim() == len(entry.shape) and tuple(block.shape[1:]) == entry.shape[1:]
        if not fits or block.dtype != entry.dtype:
            raise ValueError(f"{entry.name} is {tuple(block.shape)} {block.dtype}, announced was {entry}")
        written += handle.write(as_bytes(block))
    if written != entry.nbytes:
        raise ValueError(f"{entry.name} has {written} bytes, announced was {entry} of {entry.nbytes}")


def as_bytes(tensor: torch.Tensor) -> Any:
    """The tensor's memory."""
    import torch

    return tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data
