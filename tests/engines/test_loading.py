"""Loading a model and its adapter, whole and broken."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from selfalign.engines.embedded.loading import Source, load_model, resolve_model
from selfalign.errors import UserError
from tests.support.tiny import tiny_model, tiny_model_dir


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model_dir(tmp_path / "model")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter of the tiny model."""
    from peft import LoraConfig, get_peft_model

    path = tmp_path / "adapter"
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(tiny_model(), settings).save_pretrained(path)
    return path


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def fault_of(source: Source) -> str:
    import torch

    with pytest.raises(UserError) as caught:
        load_model(source, torch.float32)
    assert (caught.value.hint, caught.value.exit_code) == ("selfalign models", 2)
    return caught.value.message


def test_a_truncated_model_is_told_in_one_line(model: Path) -> None:
    truncate(model / "model.safetensors")
    message = fault_of(Source("m", str(model)))
    assert message.startswith(f"cannot load {model}: ")
    assert len(message.splitlines()) == 1


def test_a_truncated_adapter_is_told_in_one_line(model: Path, adapter: Path) -> None:
    truncate(adapter / "adapter_model.safetensors")
    message = fault_of(Source("m", str(model), adapter))
    assert message.startswith(f"cannot load {adapter}: ")
    assert len(message.splitlines()) == 1


def test_a_run_whose_models_are_whole_stands_for_its_final_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(UserError, match="has no model yet"):
        resolve_model(str(run))
    engraved = tiny_model_dir(run / "models" / "engraved")
    assert resolve_model(str(run)) == Source(str(engraved), str(engraved))
    final = tiny_model_dir(run / "models" / "final")
    assert resolve_model(str(run)) == Source(str(final), str(final))


def test_an_adapter_is_merged_in_without_a_warning(model: Path, adapter: Path) -> None:
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        merged = load_model(Source("m", str(model), adapter), torch.float32)
    assert [str(warning.message) for warning in caught if "checkpointing" in str(warning.message)] == []
    weights = [model.get_parameter("model.layers.0.self_attn.q_proj.weight") for model in (merged, tiny_model())]
    assert not torch.equal(*weights)
