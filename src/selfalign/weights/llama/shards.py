"""consolidated.NN.pth: read as mapped files, without running what a pickle may hold, and written one at a time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfalign.errors import UserError
from selfalign.weights.llama.names import IGNORED, Tensor, check_names, tensors_of
from selfalign.weights.llama.params import FILE, Params, read_params
from selfalign.weights.llama.split import Cut, axis_found, cuts, part, same_bits
from selfalign.weights.pickles import read_pickle

if TYPE_CHECKING:
    import torch

NAME = re.compile(r"consolidated\.(\d+)\.pth")


class Shards:
    """The shards of a directory and their params.json. Tensors are mapped, and read when they are asked for.

    A UserError names a gap in the numbering, a file that is truncated or holds code, tensors that are missing, and
    sizes that do not fit params.json.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.params: Params = read_params(directory)
        self.files = shard_files(directory)
        self.parts = [read_shard(file) for file in self.files]
        tied = "output.weight" not in self.parts[0]
        self.tensors = tensors_of(self.params.n_layers, output=not tied)
        for file, shard in zip(self.files, self.parts, strict=True):
            check_names(str(file), list(shard), [tensor.llama for tensor in self.tensors])
        self.axes = {tensor.llama: self._axis(tensor) for tensor in self.tensors}
        ffn, vocab = self._rows("layers.0.feed_forward.w1.weight"), self._rows("tok_embeddings.weight")
        self.sizes = self.params.sizes(ffn, vocab)
        self._check_announced()
        for tensor in self.tensors:
            self._check(tensor)

    def __getitem__(self, llama: str) -> torch.Tensor:
        """A whole tensor, joined from its parts; of what is whole in every shard, the first's."""
        import torch

        parts = [shard[llama] for shard in self.parts]
        axis = self.axes[llama]
        return parts[0] if axis is None or len(parts) == 1 else torch.cat(parts, dim=axis)

    def cuts(self, llama: str) -> list[Cut]:
        """Where this tensor was cut, along its axis."""
        axis = self.axes[llama]
        edges = [0]
        for shard in self.parts:
            edges.append(edges[-1] + shard[llama].shape[axis or 0])
        return [Cut(*pair) for pair in itertools.pairwise(edges)]

    def holds(self, llama: str, whole: torch.Tensor) -> bool:
        """Whether every shard has, bit for bit, its part of `whole`."""
        axis = self.axes[llama]
        return all(
            same_bits(shard[llama], part(whole, axis, cut))
            for shard, cut in zip(self.parts, self.cuts(llama), strict=True)
        )

    def _axis(self, tensor: Tensor) -> int | None:
        shapes = [tuple(shard[tensor.llama].shape) for shard in self.parts]
        if {len(shape) for shape in shapes} != {len(tensor.kind.shape)}:
            raise self._fault(tensor, f"has the shapes {shapes}")
        return axis_found(tensor, shapes, self.params.dim)

    def _rows(self, llama: str) -> int:
        shapes = [shard[llama].shape for shard in self.parts]
        return sum(shape[0] for shape in shapes) if self.axes[llama] == 0 else shapes[0][0]

    def _check_announced(self) -> None:
        """The expanded layout says its own feed-forward width and vocabulary, the plain one may say the latter."""
        vocab = self.params.model_vocab_size or max(self.params.vocab_size, 0) or self.sizes.vocab
        announced = {"ffn": self.params.ffn_dim or self.sizes.ffn, "vocab": vocab}
        for tensor in self.tensors:
            name = tensor.kind.shape[0]
            if name in announced and announced[name] != getattr(self.sizes, name):
                raise self._fault(tensor, f"has {getattr(self.sizes, name)} rows, {FILE} says {announced[name]}")

    def _check(self, tensor: Tensor) -> None:
        """The parts together have the shape that params.json asks for; what is whole is alike in all shards."""
        wanted, axis = tensor.shape(self.sizes), self.axes[tensor.llama]
        shapes = [tuple(shard[tensor.llama].shape) for shard in self.parts]
        joined = list(shapes[0])
        if axis is not None:
            joined[axis] = sum(shape[axis] for shape in shapes)
        rest = {shape[:axis] + shape[axis + 1 :] if axis is not None else shape for shape in shapes}
        if tuple(joined) != wanted or len(rest) > 1:
            raise self._fault(tensor, f"is {tuple(joined)} in {len(shapes)} shards, {FILE} says {wanted}")
        dtypes = {shard[tensor.llama].dtype for shard in self.parts}
        if len(dtypes) > 1 or not all(dtype.is_floating_point and dtype.itemsize > 1 for dtype in dtypes):
            raise self._fault(tensor, f"has dtype {' and '.join(sorted(map(str, dtypes)))}")
        if axis is None:
            first = self.parts[0][tensor.llama]
            for file, shard in zip(self.files, self.parts, strict=True):
                if not same_bits(first, shard[tensor.llama]):
                    raise self._fault(tensor, f"differs between {self.files[0].name} and {file.name}")

    def _fault(self, tensor: Tensor, text: str) -> UserError:
        return UserError(
            f"{self.directory}: {tensor.llama} {text}",
            "a shard is missing, or shards or params.json are another model's: copy the directory again",
        )


def shard_files(directory: Path) -> list[Path]:
    """consolidated.00.pth, 01, ... in order; a UserError names the first that is missing."""
    found = {int(match[1]): file for file in directory.glob("*.pth") if (match := NAME.fullmatch(file.name))}
    if not found:
        raise UserError(f"{directory} has no consolidated.00.pth", "name a directory in the LLaMA layout")
    missing = [f"consolidated.{i:02d}.pth" for i in range(max(found) + 1) if i not in found]
    if missing:
        raise UserError(f"{directory} lacks {', '.join(missing)}", "copy the missing shard there")
    return [found[i] for i in sorted(found)]


def read_shard(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of one shard, mapped: a pickle in it may build tensors and nothing else."""
    return {name: value for name, value in read_pickle(file).items() if not name.endswith(IGNORED)}


def write_shards(
    folder: Path,
    tensors: Sequence[Tensor],
    tensor_of: Callable[[Tensor], torch.Tensor],
    shards: int,
    expanded: bool,
) -> list[Path]:
    """Write consolidated.NN.pth, one after the other: one shard is in memory at a time.

    `tensor_of(tensor)` gives it whole, in the LLaMA layout; it is asked once a shard.
    """
    files = [folder / f"consolidated.{rank:02d}.pth" for rank in range(shards)]
    for rank, file in enumerate(files):
        save({tensor.llama: share(tensor_of(tensor), tensor.split(expanded), rank, shards) for tensor in tensors}, file)
    return files


def share(whole: torch.Tensor, axis: int | None, rank: int, shards: int) -> torch.Tensor:
    """A shard's part of a whole tensor, copied: a view would be saved with all of the tensor that it is a view of."""
    import torch

    cut = Cut(0, 0) if axis is None else cuts(whole.shape[axis], shards)[rank]
    return part(whole, axis, cut).clone(memory_format=torch.contiguous_format)


def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """One shard. OSError where the disk is full, which torch would report as a misplaced position."""
    import torch

    try:
        with file.open("wb") as handle:
            torch.save(tensors, handle)
    except RuntimeError as fault:
        if isinstance(fault.__context__, OSError):
            raise fault.__context__ from fault
        raise
