"""The LLaMA layout with bad input: one clear line each, and nothing of a hostile file is run."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from selfalign.cli.main import main
from selfalign.errors import UserError
from selfalign.weights.llama.from_llama import Given, from_llama
from selfalign.weights.llama.to_llama import to_llama
from tests.support.tiny import tiny_model_dir, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def written(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("llama") / "shards"
    to_llama(str(model), output, 4)
    return output


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "shards")
    return tmp_path / "shards"


def refused(shards: Path, pattern: str) -> None:
    """from-llama gives one line that matches, and writes nothing."""
    with pytest.raises(UserError, match=pattern) as caught:
        from_llama(shards, shards.parent / "out")
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert [path.name for path in shards.parent.iterdir()] == ["shards"]


class CreatesFile:
    """Unpickled without care, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_shard_is_refused_and_never_run(shards: Path, tmp_path: Path) -> None:
    trap, file = tmp_path / "shards" / "run", shards / "consolidated.01.pth"
    torch.save({"norm.weight": CreatesFile(trap)}, file)
    refused(shards, r"consolidated\.01\.pth holds code .*nothing of it was run")
    assert not trap.exists()
    torch.load(file, weights_only=False)  # the file does what it is said to do
    assert trap.exists()


def test_code_in_a_bare_pickle_is_refused_and_never_run(shards: Path, tmp_path: Path) -> None:
    trap, file = tmp_path / "shards" / "run", shards / "consolidated.00.pth"
    file.write_bytes(pickle.dumps(CreatesFile(trap)))
    refused(shards, r"consolidated\.00\.pth holds code .*nothing of it was run")
    assert not trap.exists()


def test_code_in_an_archives_data_is_refused_and_never_run(shards: Path, tmp_path: Path) -> None:
    trap, file = tmp_path / "shards" / "run", shards / "consolidated.02.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(CreatesFile(trap), protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    refused(shards, r"consolidated\.02\.pth holds code")
    assert not trap.exists()


def test_a_truncated_shard_is_named(shards: Path) -> None:
    whole = (shards / "consolidated.03.pth").read_bytes()
    (shards / "consolidated.03.pth").write_bytes(whole[: len(whole) // 2])
    refused(shards, r"consolidated\.03\.pth cannot be read")


def test_a_gap_in_the_numbering_is_named(shards: Path) -> None:
    (shards / "consolidated.02.pth").unlink()
    refused(shards, r"lacks consolidated\.02\.pth")


def test_a_missing_last_shard_is_told_by_the_sizes(shards: Path) -> None:
    (shards / "consolidated.03.pth").unlink()
    refused(shards, r"tok_embeddings\.weight is \(258, 48\) in 3 shards, params\.json says \(258, 64\)")


def test_a_shard_too_many_is_told_by_the_sizes(shards: Path) -> None:
    shutil.copyfile(shards / "consolidated.03.pth", shards / "consolidated.04.pth")
    refused(shards, r"tok_embeddings\.weight is \(258, 80\) in 5 shards, params\.json says \(258, 64\)")


def test_a_shard_of_another_model_is_told_by_its_norms(shards: Path, tmp_path: Path) -> None:
    other = torch.load(shards / "consolidated.01.pth", weights_only=True)
    other["norm.weight"] = other["norm.weight"] + 1
    torch.save(other, shards / "consolidated.01.pth")
    refused(shards, r"norm\.weight differs between consolidated\.00\.pth and consolidated\.01\.pth")


def test_a_directory_without_shards_is_refused(model: Path, shards: Path) -> None:
    for file in shards.glob("*.pth"):
        file.unlink()
    refused(shards, r"has no consolidated\.00\.pth")


def test_params_json_that_is_missing_is_named(shards: Path) -> None:
    (shards / "params.json").unlink()
    refused(shards, r"has no params\.json")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"dim": 128}, r"tok_embeddings\.weight is \(258, 64\) in 4 shards, params\.json says \(258, 128\)"),
        ({"dim": "wide"}, r"dim: Input should be a valid integer.*\(found wide\)"),
        ({"n_heads": 7}, "dim 64 is no multiple of n_heads 7"),
        ({"n_kv_heads": 3}, "n_heads 4 is no multiple of n_kv_heads 3"),
        ({"n_kv_heads": 4}, r"wk\.weight is \(32, 64\) in 4 shards, params\.json says \(64, 64\)"),
        ({"n_layers": 3}, r"lacks layers\.2\.attention\.wk\.weight and 8 more"),
        ({"n_layers": 1}, r"holds layers\.1\..* and 8 more"),
        ({"vocab_size": 300}, r"tok_embeddings\.weight has 258 rows, params\.json says 300"),
        ({"moe_args": {}}, "moe_args: Extra inputs are not permitted"),
        ({"qkv_dim": 96}, "qkv_dim, ffn_dim and model_vocab_size belong together"),
        ({"qkv_dim": 72, "ffn_dim": 128, "model_vocab_size": 258}, "qkv_dim 72 adds no whole heads of width 16"),
        ({"rope_theta": 5e5}, "config.json says rope_parameters"),
    ],
)
def test_params_json_that_does_not_fit_is_refused(shards: Path, change: dict[str, Any], pattern: str) -> None:
    params = json.loads((shards / "params.json").read_text()) | change
    (shards / "params.json").write_text(json.dumps(params))
    refused(shards, pattern)


def test_params_json_that_is_no_json_is_refused(shards: Path) -> None:
    (shards / "params.json").write_text("{dim")
    refused(shards, "is not JSON")


def test_a_model_with_biases_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Qwen2Config(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "qwen")
    tiny_tokenizer().save_pretrained(tmp_path / "qwen")
    assert main(["weights", "to-llama", str(tmp_path / "qwen"), "--to", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "is a qwen2 model (Qwen2ForCausalLM)" in error
    assert "next: selfalign weights to-gguf" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"attention_bias": True}, "it has biases"),
        ({"head_dim": 8}, "heads are 32 wide together, its hidden size is 64"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "of type linear"),
        ({"hidden_act": "gelu"}, "activation is gelu"),
        ({"intermediate_size": 256}, r"gate_proj\.weight is \(128, 64\), config\.json says \(256, 64\)"),
        ({"num_hidden_layers": 3}, r"lacks model\.layers\.2\.input_layernorm\.weight and 8 more"),
        ({"num_hidden_layers": 1}, r"holds model\.layers\.1\..* for which the LLaMA layout has no place"),
    ],
)
def test_a_llama_that_the_layout_cannot_hold_is_refused(
    model: Path, tmp_path: Path, change: dict[str, Any], pattern: str
) -> None:
    shutil.copytree(model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | change
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=pattern):
        to_llama(str(tmp_path / "model"), tmp_path / "out")


@pytest.mark.parametrize(("shards", "pattern"), [(0, "at least 1"), (3, "--shards 3 is too many.*32 rows.*2 shards")])
def test_a_number_of_shards_that_does_not_fit_is_refused(
    model: Path, tmp_path: Path, shards: int, pattern: str
) -> None:
    with pytest.raises(UserError, match=pattern):
        to_llama(str(model), tmp_path / "out", shards)


def test_weights_beyond_float16_are_refused(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"model\.norm\.weight holds 1e\+06, beyond float16"):
        to_llama(str(tmp_path / "model"), tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a shard has 430 kB
    try:
        with pytest.raises(UserError, match=r"cannot write .*/out: File too large") as caught:
            to_llama(str(model), tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_is_to_be_merged_first(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    with pytest.raises(UserError, match="is an adapter") as caught:
        to_llama(str(adapter), tmp_path / "out")
    assert caught.value.hint.startswith(f"selfalign weights merge {adapter} --to ")


def test_a_tokenizer_directory_without_one_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer"):
        from_llama(shards, tmp_path / "out", tokenizer=tmp_path)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no directory"):
        from_llama(tmp_path / "absent", tmp_path / "out")


def test_a_width_below_1_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--vocab-size 0: it must be at least 1"):
        from_llama(shards, tmp_path / "out", given=Given(vocab_size=0))
