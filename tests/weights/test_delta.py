"""Weights as a difference from the base, and back."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfalign.cli.main import main
from selfalign.engines.embedded.loading import resolve_model
from selfalign.errors import UserError
from selfalign.weights.checkpoint import Checkpoint, Entry
from selfalign.weights.delta import add, apply_delta, subtract, write_delta
from selfalign.weights.delta_adapter import write_adapter_delta
from selfalign.weights.proof import compare_models
from tests.weights.adapters import save_adapter, save_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "base", "bfloat16", shard_size="100KB")


def tune(base: Path, path: Path, rows: int = 258) -> Path:
    """The base with every weight moved, its vocabulary of `rows` rows, and its embeddings apart."""
    torch.manual_seed(0)
    with Checkpoint(base) as origin:
        tensors = {name: origin.tensor(name).clone() for name in origin.names}
    embedding = tensors["model.embed_tokens.weight"]
    longer = torch.cat([embedding, torch.randn(max(0, rows - len(embedding)), 64).bfloat16()])
    tensors |= {"model.embed_tokens.weight": longer[:rows], "lm_head.weight": longer[:rows].clone()}
    tuned = {name: (part.float() + 0.01 * torch.randn(part.shape)).bfloat16() for name, part in tensors.items()}
    shutil.copytree(base, path, ignore=shutil.ignore_patterns("model*"))
    config = json.loads((path / "config.json").read_text())
    sizes = {"tie_word_embeddings": False, "vocab_size": rows}
    (path / "config.json").write_text(json.dumps(config | sizes))
    save_file(tuned, path / "model.safetensors", metadata={"format": "pt"})
    (path / "README.md").write_text("The tuned model's card.")
    return path


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tune(base, tmp_path_factory.mktemp("tuned") / "tuned")


def same_bits(one: Path, other: Path) -> bool:
    with Checkpoint(one) as first, Checkpoint(other) as second:
        return set(first.names) == set(second.names) and all(
            first.tensor(name).view(torch.int16).equal(second.tensor(name).view(torch.int16)) for name in first.names
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
def test_a_difference_adds_up_bit_for_bit_even_for_nan_infinity_and_minus_zero(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    bounds = torch.iinfo(integers)
    base, tuned = (
        torch.randint(bounds.min, bounds.max, (40, 50), generator=generator, dtype=torch.int64).to(integers).view(dtype)
        for _ in range(2)
    )
    if dtype.is_floating_point:
        base[0, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
        tuned[0, 2:5] = torch.tensor([float("nan"), float("-inf"), -0.0])
    apart = subtract(tuned, base)
    assert not apart.dtype.is_floating_point
    back = add(apart, base, Entry("x", (40, 50), dtype))
    assert back.dtype == dtype and back.view(integers).equal(tuned.view(integers))


def test_a_floating_point_difference_would_not_add_up(base: Path, tuned: Path) -> None:
    with Checkpoint(base) as first, Checkpoint(tuned) as second:
        old, new = (part.tensor("model.layers.0.mlp.up_proj.weight") for part in (first, second))
        assert not ((new - old) + old).equal(new)


@pytest.mark.parametrize("rows", [258, 300, 200])
def test_base_and_delta_give_the_tuned_model_bit_for_bit(base: Path, tmp_path: Path, rows: int) -> None:
    tuned = tune(base, tmp_path / "tuned", rows)
    written = write_delta(tuned, base, "base", tmp_path / "delta", shard_bytes=60_000)
    assert written.alone == []  # the output embedding is a difference from the input embedding it was tied to
    apply_delta(tmp_path / "delta", base, "base", tmp_path / "again", shard_bytes=200_000)
    assert same_bits(tuned, tmp_path / "again")


def test_what_goes_along_comes_back(base: Path, tuned: Path, tmp_path: Path) -> None:
    write_delta(tuned, base, "base", tmp_path / "delta")
    assert sorted(path.name for path in (tmp_path / "delta").iterdir()) == [
        *("README.md", "delta.json", "files", "weights")
    ]
    assert "as a difference from base" in (tmp_path / "delta/README.md").read_text()
    apply_delta(tmp_path / "delta", base, "base", tmp_path / "again")
    companions = ["README.md", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted([*companions, "model.safetensors"])
    assert all((tmp_path / "again" / name).read_bytes() == (tuned / name).read_bytes() for name in companions)


def test_the_base_may_lie_in_other_shards(base: Path, tuned: Path, tmp_path: Path) -> None:
    write_delta(tuned, base, "base", tmp_path / "delta")
    with Checkpoint(base) as origin:
        tensors = {name: origin.tensor(name).clone() for name in origin.names}
    shutil.copytree(base, tmp_path / "whole", ignore=shutil.ignore_patterns("model*"))
    save_file(tensors, tmp_path / "whole/model.safetensors")
    apply_delta(tmp_path / "delta", tmp_path / "whole", "whole", tmp_path / "again")
    assert same_bits(tuned, tmp_path / "again")


def test_the_commands_print_that_output_equals_input(
    base: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delta, again = str(tmp_path / "delta"), str(tmp_path / "again")
    assert main(["weights", "delta", str(tuned), "--base", str(base), "--to", delta]) == 0
    assert f"added to base: all 21 tensors equal those of {tuned}, bit for bit" in capsys.readouterr().out
    assert main(["weights", "apply", delta, "--base", str(base), "--to", again]) == 0
    assert "read back: all 21 tensors have tuned's checksums, bit for bit" in capsys.readouterr().out
    text = "".join(path.read_text() for path in Path(delta).rglob("*.json"))
    assert str(tmp_path) not in text and str(base) not in text
    assert main(["chat", delta]) == 2
    assert "is a delta" in capsys.readouterr().err


def test_a_wrong_base_is_refused_by_name_before_anything_is_written(
    base: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_delta(tuned, base, "someone/base-7b", tmp_path / "delta")
    other = save_base(tmp_path / "other")  # the same shapes, in float32
    command = ["weights", "apply", str(tmp_path / "delta"), "--base", str(other), "--to", str(tmp_path / "again")]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "made from someone/base-7b, and other is not that model: it has another model." in told
    with pytest.raises(UserError, match=r"someone/base-7b, and tuned is not that model"):
        apply_delta(tmp_path / "delta", tuned, "tuned", tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "other"]


def test_one_bit_of_damage_is_found(base: Path, tuned: Path, tmp_path: Path) -> None:
    write_delta(tuned, base, "base", tmp_path / "delta")
    file = tmp_path / "delta/weights/model.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="is damaged: it does not give the tuned model's values") as told:
        apply_delta(tmp_path / "delta", base, "base", tmp_path / "again")
    assert told.value.exit_code == 1
    assert not (tmp_path / "again").exists()


def test_two_models_without_a_tensor_in_common_have_no_delta(base: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_file({"something": torch.zeros(3)}, tmp_path / "other/model.safetensors")
    with pytest.raises(UserError, match="have no tensor in common"):
        write_delta(tmp_path / "other", base, "base", tmp_path / "delta")


def test_a_base_of_another_width_is_not_the_base(base: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_file({"model.embed_tokens.weight": torch.zeros(258, 32)}, tmp_path / "other/model.safetensors")
    with pytest.raises(UserError, match=r"other is 32 wide, and .*base 64: it was not tuned from that base"):
        write_delta(tmp_path / "other", base, "base", tmp_path / "delta")


def test_a_directory_without_a_manifest_is_no_delta(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no delta: it has no delta\.json"):
        apply_delta(tuned, tuned, "tuned", tmp_path / "again")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """One that stores a copy of the base's embeddings beside its factors, as PEFT does if they have a LoRA."""
    adapter = save_adapter(base, tmp_path / "tuned", target_modules=["q_proj", "embed_tokens"])
    assert any(
        "embed_tokens" in name and "lora" not in name for name in load_file(adapter / "adapter_model.safetensors")
    )
    return adapter


def test_the_delta_of_an_adapter_is_the_adapter(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delta, again = tmp_path / "delta", tmp_path / "again"
    assert main(["weights", "delta", str(adapter), "--base", str(base), "--to", str(delta)]) == 0
    assert "all 6 factors equal those of" in capsys.readouterr().out
    settings: dict[str, Any] = json.loads((delta / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"
    stored = load_file(delta / "adapter_model.safetensors")
    assert all("lora_" in name for name in stored)  # none of the base's weights
    assert main(["weights", "apply", str(delta), "--base", str(base), "--to", str(again)]) == 0
    assert "on base, whose checksums are right" in capsys.readouterr().out
    assert compare_models(adapter, resolve_model(str(again)), prompts=["A text."]).largest == 0.0


def test_no_file_of_a_delta_tells_where_the_base_lay(base: Path, tuned: Path, adapter: Path, tmp_path: Path) -> None:
    """Training writes the base's place into a card's text and front matter, transformers into a model's settings."""
    for model in (tuned, adapter):
        (model / "README.md").write_text(f"---\nbase_model: {base}\n---\nOn `{base}`, made in {model}.\n")
    config = json.loads((tuned / "config.json").read_text())
    (tuned / "config.json").write_text(json.dumps(config | {"_name_or_path": str(base)}))
    for model in (tuned, adapter):
        delta = tmp_path / f"delta-{model.parent.name}-{model.name}"
        assert main(["weights", "delta", str(model), "--base", str(base), "--to", str(delta)]) == 0
        texts = [file.read_text() for file in delta.rglob("*") if file.suffix in (".md", ".json")]
        assert "base_model: base\n" in "".join(texts)
        assert not [text for text in texts if str(base.parent) in text or str(model.parent) in text]


def test_the_factors_of_an_adapter_on_a_full_disk_leave_nothing(base: Path, adapter: Path, tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, old[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*delta: File too large"):
            write_adapter_delta(adapter, base, "base", tmp_path / "delta")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]


@pytest.mark.parametrize("lost", ["kind", "base", "tuned", "tensors", "format", None])
def test_a_manifest_that_is_not_whole_is_told(
    base: Path, tuned: Path, tmp_path: Path, lost: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_delta(tuned, base, "base", tmp_path / "delta")
    file = tmp_path / "delta" / "delta.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in manifest.items() if key != lost} if lost else []))
    assert main(["weights", "apply", str(file.parent), "--base", str(base), "--to", str(tmp_path / "again")]) == 2
    assert "delta.json does not say what a delta says" in capsys.readouterr().err


def test_an_adapter_is_not_put_on_a_wrong_base(base: Path, adapter: Path, tuned: Path, tmp_path: Path) -> None:
    delta = tmp_path / "delta"
    assert main(["weights", "delta", str(adapter), "--base", str(base), "--to", str(delta)]) == 0
    assert main(["weights", "apply", str(delta), "--base", str(tuned), "--to", str(tmp_path / "again")]) == 2
    assert not (tmp_path / "again").exists()
