"""Weights as a difference from the base, for bases whose licence forbids handing on their weights.

The difference is one of bit patterns: both tensors are read as unsigned integers of their width and subtracted, with
wrap-around. Adding it to the same base gives back the tuned weights bit for bit. A difference of floating-point numbers
does not: (tuned - base) + base is rounded twice. Values that a tuning moved little have a small integer difference, so
the files compress as those of a floating-point difference do.

Where the tuned tensor has another shape than the base's (a resized vocabulary, padding), the base's is cut or filled
with zeros first, and a tensor that the base lacks is taken against zeros. A delta is a directory:

    delta.json             names, and the SHA-256 of each tensor of the base and of the tuned model
    weights/*.safetensors  the differences, as integers
    files/                 what goes along: config.json, tokenizer, chat template, generation settings, model card
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.errors import UserError
from selfalign.weights.checkpoint import SHARD_BYTES, Checkpoint, Entry, write_checkpoint
from selfalign.weights.checksums import is_weights, tensor_checksum
from selfalign.weights.delta_manifest import check_base, read_manifest, write_manifest
from selfalign.weights.folder import new_folder, require_space

if TYPE_CHECKING:
    import numpy as np
    import torch

WEIGHTS, FILES = "weights", "files"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
INTEGERS = {2: "int16", 4: "int32", 8: "int64"}
"""Bytes of a value -> the dtype that holds its difference."""


class Written(NamedTuple):
    """What a delta, or its application, came to."""

    directory: Path
    tensors: int
    nbytes: int
    """Of the tuned weights."""
    alone: list[str]
    """Tensors with nothing in the base to be a difference from: stored as they are."""


def write_delta(tuned: Path, base: Path, base_name: str, output: Path, shard_bytes: int = SHARD_BYTES) -> Written:
    """Write to `output` what turns `base` into `tuned`, then read it back, add it to the base and compare.

    UserError where the two have nothing in common, and (exit 1) where what was written does not add up to `tuned`.
    """
    with Checkpoint(tuned) as tuning, Checkpoint(base) as origin:
        pairs = {name: counterpart(name, tuning.entry(name), origin) for name in tuning.names}
        if not any(pairs.values()):
            raise UserError(f"{tuned} and {base} have no tensor in common", "name the base that it was tuned from")
        check_width(tuning, origin)
        entries = [difference_entry(tuning.entry(name)) for name in tuning.names]
        sums: dict[str, str] = {}

        def difference(name: str) -> torch.Tensor:
            wanted, old = tuning.tensor(name), pairs[name]
            sums[name] = tensor_checksum(wanted)
            return subtract(wanted, origin.tensor(old) if old else None)

        with new_folder(output) as folder:
            size = sum(entry.nbytes for entry in entries)
            require_space(folder, size, output)
            (folder / WEIGHTS).mkdir()
            write_checkpoint(folder / WEIGHTS, entries, difference, shard_bytes)
            copy_files(tuned, folder / FILES)
            hide_places(folder / FILES, {str(base.resolve()): base_name, str(tuned.resolve()): tuned.resolve().name})
            tensors = {name: describe(tuning.entry(name), pairs[name], sums[name]) for name in tuning.names}
            write_manifest(folder, base_name, tuned.resolve().name, tensor_checksums(origin), tensors)
            with Checkpoint(folder / WEIGHTS) as written:
                for name in tensors:
                    restored(name, tensors[name], written, origin)
    return Written(output, len(entries), size, [name for name, old in pairs.items() if old is None])


def apply_delta(delta: Path, base: Path, base_name: str, output: Path, shard_bytes: int = SHARD_BYTES) -> Written:
    """Write to `output` the tuned model, and compare each tensor in the new files with the tuned model's checksum.

    UserError, before anything is written, where `base` is not the one named; exit 1 where the delta is damaged.
    """
    manifest = read_manifest(delta)
    tensors = manifest["tensors"]
    with Checkpoint(base) as origin, Checkpoint(delta / WEIGHTS) as difference:
        check_base(manifest, origin, base_name, delta)
        entries = [entry_of(name, tensors[name]) for name in difference.names if name in tensors]
        if len(entries) != len(tensors):
            raise UserError(f"{delta} lacks {len(tensors) - len(entries)} tensors", "download the delta again")
        with new_folder(output) as folder:
            size = sum(entry.nbytes for entry in entries)
            require_space(folder, size, output)
            write_checkpoint(
                folder, entries, lambda name: restored(name, tensors[name], difference, origin), shard_bytes
            )
            copy_files(delta / FILES, folder)
            with Checkpoint(folder) as written:
                for name, checksum in tensor_checksums(written).items():
                    require_checksum(checksum, tensors[name], name, folder)
    return Written(output, len(entries), size, [name for name in tensors if tensors[name]["base"] is None])


def restored(name: str, described: dict[str, Any], difference: Checkpoint, base: Checkpoint) -> torch.Tensor:
    """The tuned tensor. UserError (exit 1) where it has not the checksum of the tuned model's."""
    old = described["base"]
    tensor = add(difference.tensor(name), base.tensor(old) if old else None, entry_of(name, described))
    require_checksum(tensor_checksum(tensor), described, name, difference.directory)
    return tensor


def require_checksum(checksum: str, described: dict[str, Any], name: str, directory: Path) -> None:
    """UserError (exit 1) unless it is the tuned tensor's."""
    if checksum != described["sha256"]:
        raise UserError(
            f"{name} in {directory} is damaged: it does not give the tuned model's values (SHA-256 {checksum[:12]}..., "
            f"not {described['sha256'][:12]}...)",
            "copy or download the delta again",
            exit_code=1,
        )


def name_of(base: str) -> str:
    """What to call a base in public: a Hub id as it is; of a directory its name, and not where it lies here."""
    path = Path(base).expanduser()
    return path.resolve().name if path.exists() else base


def check_width(tuned: Checkpoint, base: Checkpoint) -> None:
    """UserError where the models' widths differ: no tuning, and no padding, changes the embeddings' second axis."""
    for name in base.names:
        if name.endswith(EMBEDDINGS) and name in tuned and tuned.entry(name).shape[1:] != base.entry(name).shape[1:]:
            raise UserError(
                f"{tuned.directory} is {tuned.entry(name).shape[1]} wide, and {base.directory} "
                f"{base.entry(name).shape[1]}: it was not tuned from that base",
                "name the base that it was tuned from",
            )


def counterpart(name: str, tuned: Entry, base: Checkpoint) -> str | None:
    """The base's tensor that `name` was made from. An output embedding that came apart is made from the input's."""
    ties = [old for old in base.names if old.endswith(EMBEDDINGS)]
    for old in [name, *(ties if name == "lm_head.weight" else [])]:
        if old in base and len(base.entry(old).shape) == len(tuned.shape):
            return old
    return None


def subtract(tuned: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor:
    """tuned - base, as integers that wrap around. Shape of `tuned`."""
    import torch

    apart = bits(tuned) - bits(fitted(base, tuned))
    return torch.from_numpy(apart.view(f"i{apart.itemsize}")).reshape(tuned.shape)


def add(difference: torch.Tensor, base: torch.Tensor | None, entry: Entry) -> torch.Tensor:
    """base + difference: the tuned tensor that `entry` describes."""
    import torch

    like = torch.empty(entry.shape, dtype=entry.dtype, device="meta")
    whole = bits(difference) + bits(fitted(base, like))
    return torch.from_numpy(whole.view(f"i{whole.itemsize}")).view(entry.dtype).reshape(entry.shape)


def fitted(base: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """The base's tensor in the dtype and shape of `like`, cut or filled with zeros."""
    import torch

    if base is not None and base.shape == like.shape:
        return base.to(like.dtype)
    whole = torch.zeros(like.shape, dtype=like.dtype)
    if base is not None:
        shared = tuple(slice(min(a, b)) for a, b in zip(base.shape, like.shape, strict=True))
        whole[shared] = base[shared].to(like.dtype)
    return whole


def bits(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The values' bit patterns as unsigned integers, whose arithmetic wraps around by definition."""
    import torch

    width = tensor.element_size()
    flat = tensor.contiguous().reshape(-1).view(getattr(torch, INTEGERS[width])).numpy()
    patterns: np.ndarray[Any, Any] = flat.view(f"u{width}")
    return patterns


def difference_entry(entry: Entry) -> Entry:
    """The difference's name, shape and dtype."""
    import torch

    if entry.dtype.itemsize not in INTEGERS:
        raise UserError(f"{entry.name} has dtype {entry.dtype}", "name the 16-bit weights")
    return entry._replace(dtype=getattr(torch, INTEGERS[entry.dtype.itemsize]))


def describe(entry: Entry, old: str | None, checksum: str) -> dict[str, Any]:
    """A tuned tensor's line of the manifest."""
    dtype = str(entry.dtype).removeprefix("torch.")
    return {"base": old, "dtype": dtype, "shape": list(entry.shape), "sha256": checksum}


def entry_of(name: str, described: dict[str, Any]) -> Entry:
    """What `describe` wrote."""
    import torch

    return Entry(name, tuple(described["shape"]), getattr(torch, described["dtype"]))


def tensor_checksums(checkpoint: Checkpoint) -> dict[str, str]:
    """Tensor -> checksum, whatever shard it lies in."""
    return {name: tensor_checksum(checkpoint.tensor(name)) for name in checkpoint.names}


def copy_files(origin: Path, target: Path) -> None:
    """Everything of a model directory but its weights, their index, and hidden files."""
    target.mkdir(exist_ok=True)
    for path in sorted(origin.iterdir()):
        if path.name.startswith(".") or is_weights(path) or path.name.endswith(".index.json"):
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def hide_places(folder: Path, names: dict[str, str]) -> None:
    """Where cards and settings tell at which absolute path a model lay on this machine, let them tell its name."""
    for file in sorted(folder.rglob("*")):
        if file.suffix not in (".md", ".json", ".yaml") or file.name == "tokenizer.json":
            continue
        text = told = file.read_text(encoding="utf-8")
        for place in sorted(names, key=len, reverse=True):  # a place may lie inside another
            told = told.replace(place, names[place])
        if told != text:
            file.write_text(told, encoding="utf-8")
