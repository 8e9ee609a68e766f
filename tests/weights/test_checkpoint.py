"""Weights as a stream of tensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfalign.errors import UserError
from selfalign.weights.checkpoint import INDEX, Checkpoint, Entry, write_checkpoint
from selfalign.weights.folder import new_folder

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.arange(10).to(torch.bfloat16),
    "c": torch.tensor(3.5, dtype=torch.float16),
    "empty": torch.zeros(0, 4),
}


def entries() -> list[Entry]:
    return [Entry(name, tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def test_safetensors_reads_what_was_streamed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, entries(), TENSORS.__getitem__)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert same(load_file(tmp_path / "model.safetensors"), TENSORS)


def test_a_large_model_is_written_in_shards_with_an_index(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, entries(), TENSORS.__getitem__, shard_bytes=50)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        INDEX,
    ]
    with Checkpoint(tmp_path) as checkpoint:
        assert same({name: checkpoint.tensor(name).clone() for name in checkpoint.names}, TENSORS)
        assert [checkpoint.entry(name) for name in checkpoint.names] == entries()


def test_a_tensor_that_is_not_as_announced_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="announced"):
        write_checkpoint(tmp_path, entries(), lambda name: TENSORS["a"])


def test_a_tensor_may_come_in_blocks_of_rows(tmp_path: Path) -> None:
    blocks = {**TENSORS, "a": iter(TENSORS["a"].split(2)), "b": iter(TENSORS["b"].split(3))}
    write_checkpoint(tmp_path, entries(), blocks.__getitem__)
    assert same(load_file(tmp_path / "model.safetensors"), TENSORS)


@pytest.mark.parametrize("blocks", [[TENSORS["a"][:2]], [TENSORS["a"], TENSORS["a"]], [TENSORS["a"][:, :2]]])
def test_blocks_that_are_not_the_tensor_are_a_fault(tmp_path: Path, blocks: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="announced"):
        write_checkpoint(tmp_path, entries(), lambda name: iter(blocks))


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_in_torchs_own_format_are_read_too(tmp_path: Path, zipped: bool) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with Checkpoint(tmp_path) as checkpoint:
        assert same({name: checkpoint.tensor(name) for name in checkpoint.names}, TENSORS)
        assert [checkpoint.entry(name) for name in checkpoint.names] == entries()


def test_shards_in_torchs_own_format_go_by_their_index(tmp_path: Path) -> None:
    places = {name: f"pytorch_model-{i}.bin" for i, name in enumerate(TENSORS)}
    for name, file in places.items():
        torch.save({name: TENSORS[name]}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    with Checkpoint(tmp_path) as checkpoint:
        assert same({name: checkpoint.tensor(name) for name in checkpoint.names}, TENSORS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "holds no weights: it begins with b'version https://git"),
        (b"", "cannot be read"),
        (pickle.dumps({"a": [1, 2]}, protocol=2), "cannot be read|holds dict, no table of tensors"),
    ],
)
def test_a_file_that_holds_no_weights_is_not_called_code(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        Checkpoint(tmp_path)


def test_exchanged_shards_are_told_by_the_first_name_that_is_not_there(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, entries(), TENSORS.__getitem__, shard_bytes=50)
    one, other = sorted(tmp_path.glob("*.safetensors"))
    for old, new in ((one, tmp_path / "aside"), (other, one), (tmp_path / "aside", other)):
        old.rename(new)
    with Checkpoint(tmp_path) as checkpoint, pytest.raises(UserError, match=rf"{one.name} lacks a, which their index"):
        checkpoint.entry("a")


@pytest.mark.parametrize("index", ["[]", "{", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none_is_told(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(UserError, match=r"index\.json is no index of weights"):
        Checkpoint(tmp_path)


def test_shards_without_their_index_are_told(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, entries(), TENSORS.__getitem__, shard_bytes=50)
    (tmp_path / INDEX).unlink()
    with pytest.raises(UserError, match=rf"has shards, and lacks {INDEX}"):
        Checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, entries(), TENSORS.__getitem__, shard_bytes=50)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="lacks model-00002-of-00002"):
        Checkpoint(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read as safetensors"):
        Checkpoint(tmp_path)


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*No space left"), new_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="there already"), new_folder(tmp_path):
        pass
