"""What a merge refuses, and that it leaves nothing behind then."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfalign.cli.main import main
from selfalign.engines.embedded.loading import Source, resolve_model
from selfalign.errors import UserError
from selfalign.weights.merge import merge_adapter
from selfalign.weights.proof import compare_models
from tests.weights.adapters import changed, save_base

ODD: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "LOHA"}, "is a LOHA adapter"),
    ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ({"bias": "all"}, "bias='all'"),
    ({"r": 8}, r"q_proj has factors \(4, 64\) and \(64, 4\), and its rank is set to 8|rank is set to 8"),
    ({"use_dora": True}, "lora_magnitude_vector"),
]


@pytest.mark.parametrize(("settings", "message"), ODD)
def test_an_adapter_that_is_not_computed_here_is_refused_by_name(
    adapter: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        merge_adapter(changed(adapter, tmp_path / "odd", **settings), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def other_base(path: Path, **sizes: Any) -> Path:
    """A Llama of other sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.support.tiny import tiny_tokenizer

    common = {"vocab_size": 258, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = LlamaConfig(**(common | {"num_attention_heads": 4, "num_key_value_heads": 2} | sizes))
    LlamaForCausalLM(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 32}, r"another base: it changes .* of shape \(32, 64\), and in .* its shape is \(16, 32\)"),
        ({"num_hidden_layers": 1}, r"another base: it changes model\.layers\.1\..* and 2 more, which .*other lacks"),
    ],
)
def test_an_adapter_of_another_base_is_refused_before_anything_is_written(
    adapter: Path, tmp_path: Path, sizes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = other_base(tmp_path / "other", **sizes)
    with pytest.raises(UserError, match=message):
        merge_adapter(Source("x", str(other), adapter), tmp_path / "merged")
    assert main(["weights", "merge", str(adapter), "--base", str(other), "--to", str(tmp_path / "merged")]) == 2
    assert "another base" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_a_resized_vocabulary_is_named(base: Path, adapter: Path, tmp_path: Path) -> None:
    small = other_base(tmp_path / "small", vocab_size=200)
    with pytest.raises(UserError, match=r"vocabulary was resized: .* ids up to 257, and .*small has 200 token"):
        merge_adapter(Source("x", str(small), adapter), tmp_path / "merged")
    resized = Path(shutil.copytree(adapter, tmp_path / "resized"))
    tensors = load_file(resized / "adapter_model.safetensors")
    tensors["base_model.model.model.embed_tokens.weight"] = torch.zeros(300, 64)
    save_file(tensors, resized / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"vocabulary was resized: .* of shape \(300, 64\), and .* is \(258, 64\)"):
        merge_adapter(Source("x", str(base), resized), tmp_path / "merged")


class Bomb:
    """A pickle of it makes a file when it is opened by a reader that runs code."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def test_code_in_a_pickle_is_never_run(base: Path, adapter: Path, tmp_path: Path) -> None:
    armed = Path(shutil.copytree(adapter, tmp_path / "armed"))
    (armed / "adapter_model.safetensors").unlink()
    fired = tmp_path / "fired"
    torch.save({"base_model.model.x.lora_A.weight": Bomb(fired)}, armed / "adapter_model.bin")
    with pytest.raises(UserError, match=r"adapter_model\.bin holds code .*nothing of it was run"):
        merge_adapter(Source("x", str(base), armed), tmp_path / "merged")
    (armed / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(fired)))
    with pytest.raises(UserError, match=r"adapter_model\.bin"):
        merge_adapter(Source("x", str(base), armed), tmp_path / "merged")
    bad_base = Path(shutil.copytree(base, tmp_path / "bad_base"))
    (bad_base / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Bomb(fired)}, bad_base / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin holds code .*nothing of it was run"):
        merge_adapter(Source("x", str(bad_base), adapter), tmp_path / "merged")
    with pytest.raises(UserError, match="cannot load"):
        compare_models(bad_base, base)
    assert not fired.exists()


def test_a_pickle_of_plain_tensors_is_read(base: Path, adapter: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(adapter, tmp_path / "old"))
    torch.save(load_file(old / "adapter_model.safetensors"), old / "adapter_model.bin")
    (old / "adapter_model.safetensors").unlink()
    assert merge_adapter(Source("x", str(base), old), tmp_path / "merged").changed == 8


def test_a_base_in_torchs_own_format_is_merged_into(base: Path, adapter: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(base, tmp_path / "old"))
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    merge_adapter(Source("x", str(old), adapter), tmp_path / "from_pickle")
    merge_adapter(Source("x", str(base), adapter), tmp_path / "from_safetensors")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("from_pickle", "from_safetensors"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_base_that_is_named_stands_in_for_one_that_is_gone(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = changed(adapter, tmp_path / "alone", base_model_name_or_path="/nowhere/base").adapter
    command = ["weights", "merge", str(alone), "--no-proof", "--to"]
    assert main([*command, str(tmp_path / "merged")]) == 2
    assert "no model at '/nowhere/base'" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "merged"), "--base", str(base)]) == 0
    assert main(["weights", "delta", str(alone), "--base", str(base), "--to", str(tmp_path / "delta")]) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "more"), "--base", str(adapter)]) == 2
    assert f"{adapter} is an adapter, and no base" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "does not name its base model"),
        ({"base_model_name_or_path": None}, "does not name its base model: base_model_name_or_path is None"),
        ({"r": None}, "r is None, and a LoRA has a number there"),
        ({"r": "4"}, "r is '4', and a LoRA has a number there"),
        ({"lora_alpha": None}, "lora_alpha is None, and a LoRA has a number there"),
    ],
)
def test_settings_that_are_none_are_one_line(
    adapter: Path, tmp_path: Path, settings: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = changed(adapter, tmp_path / "broken").adapter
    assert broken
    old = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps(old | settings if settings else settings))
    assert main(["weights", "merge", str(broken), "--to", str(tmp_path / "merged")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_a_truncated_adapter_and_a_missing_shard_are_named(adapter: Path, tmp_path: Path) -> None:
    short = Path(shutil.copytree(adapter, tmp_path / "short"))
    whole = (short / "adapter_model.safetensors").read_bytes()
    (short / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors cannot be read as safetensors"):
        merge_adapter(resolve_model(str(short)), tmp_path / "merged")
    sharded = save_base(tmp_path / "sharded", shard_size="100KB")
    lost = sorted(sharded.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(UserError, match=f"sharded lacks {lost.name}"):
        merge_adapter(Source("x", str(sharded), adapter), tmp_path / "merged")


def test_a_disk_that_fills_up_halfway_leaves_nothing(adapter: Path, tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))  # the model has 450,000 bytes
    try:
        with pytest.raises(UserError, match=r"cannot write .*merged: File too large") as told:
            merge_adapter(resolve_model(str(adapter)), tmp_path / "merged")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert told.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_at_once(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"merged needs 0\.00 GB, and its disk has 0\.00 GB left"):
        merge_adapter(resolve_model(str(adapter)), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_value_beyond_float16_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    large = Path(shutil.copytree(base, tmp_path / "large"))
    tensors = load_file(large / "model.safetensors")
    tensors["model.norm.weight"][3] = 70000.0
    save_file(tensors, large / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"model\.norm\.weight has values beyond torch\.float16's range"):
        merge_adapter(Source("x", str(large), adapter), tmp_path / "merged", "float16")


def test_a_model_without_an_adapter_has_nothing_to_merge(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no adapter: there is nothing to merge"):
        merge_adapter(resolve_model(str(base)), tmp_path / "merged")


def test_a_quantised_base_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    small = Path(shutil.copytree(base, tmp_path / "small"))
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(UserError, match=r"small is quantised \(bitsandbytes\)"):
        merge_adapter(Source("x", str(small), adapter), tmp_path / "merged")


def test_a_tokenizer_that_pads_with_eos_gets_a_note(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(base, tmp_path / "own"))
    settings = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": settings["eos_token"]}))
    command = ["weights", "merge", str(adapter), "--base", str(own), "--to", str(tmp_path / "merged"), "--no-proof"]
    assert main(command) == 0
    assert "pads with its end-of-text token (<|end|>)" in capsys.readouterr().err
