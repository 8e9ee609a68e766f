"""Zero-padding for tensor parallelism: the least widths that divide, and not one logit changed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from selfalign.cli.main import main
from selfalign.errors import UserError
from selfalign.weights.pad import pad_model
from selfalign.weights.padding import EMPTY, Widths, divides, head_slots, padded_widths, place, runs_in_vllm
from tests.support.tiny import tiny_model_dir
from tests.weights.families import FAMILIES, random_model

PARALLEL = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
IDS = torch.tensor([[72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100, 10]])


def own_widths(model: Path) -> Widths:
    config = json.loads((model / "config.json").read_text())
    return Widths(*(config[key] for key in ("num_attention_heads", "num_key_value_heads", "intermediate_size")))


def logits_of(path: Path) -> torch.Tensor:
    """In float64, rounded to float32: added zeros may not make a difference through the order of a sum's terms."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
    with torch.inference_mode():
        return model(IDS).logits.float()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_same_for_every_number_of_devices(family: str, tmp_path: Path) -> None:
    original = random_model(family, tmp_path / "original")
    expected = logits_of(original)
    assert expected.std() > 0.1
    within = 840 if family in ("gemma2", "gemma3_text") else 0
    for parallel in PARALLEL:
        if divides(own_widths(original), parallel) or (within and within % parallel):
            continue
        padded = tmp_path / f"padded-{parallel}"
        pad_model(str(original), parallel, padded, prove=False)
        assert divides(own_widths(padded), parallel)
        assert torch.equal(logits_of(padded), expected), (family, parallel)


def test_a_fault_in_the_padding_would_show(tmp_path: Path) -> None:
    original = random_model("llama", tmp_path / "original")
    padded = tmp_path / "padded"
    pad_model(str(original), 4, padded, prove=False)
    weights = load_file(padded / "model.safetensors")
    name = next(name for name in weights if "k_proj" in name)
    weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, padded / "model.safetensors", metadata={"format": "pt"})
    assert not torch.allclose(logits_of(padded), logits_of(original), atol=1e-3)


sizes = st.tuples(st.integers(1, 12), st.integers(1, 8), st.integers(1, 300), st.integers(1, 16))


@settings(max_examples=150, deadline=None)
@given(sizes)
def test_padded_widths_divide_and_are_the_least(size: tuple[int, int, int, int]) -> None:
    kv_heads, group, intermediate, parallel = size
    own = Widths(kv_heads * group, kv_heads, intermediate)
    padded = padded_widths(own, parallel)
    assert padded is not None
    assert divides(padded, parallel)
    assert runs_in_vllm(padded, parallel)
    assert intermediate <= padded.intermediate < intermediate + parallel
    least = min(
        each * wide + wide
        for each, wide in itertools.product(range(1, 2 * group), range(parallel, parallel * (own.heads + 2), parallel))
        if kv_heads * -(-group // each) <= wide
    )
    assert padded.heads + padded.kv_heads == least


@settings(max_examples=150, deadline=None)
@given(sizes)
def test_every_query_head_keeps_its_key_value_head(size: tuple[int, int, int, int]) -> None:
    kv_heads, group, intermediate, parallel = size
    own = Widths(kv_heads * group, kv_heads, intermediate)
    padded = padded_widths(own, parallel)
    assert padded is not None
    slots = head_slots(own, padded)
    assert (len(slots.query), len(slots.key_value)) == padded[:2]
    assert [head for head in slots.query if head != EMPTY] == list(range(own.heads))
    each = padded.heads // padded.kv_heads
    for i, head in enumerate(slots.query):
        assert head == EMPTY or slots.key_value[i // each] == head // group


def test_9_heads_and_3_key_value_heads_become_12_and_4_for_2_devices() -> None:
    assert not runs_in_vllm(Widths(9, 3, 1536), 2)
    assert padded_widths(Widths(9, 3, 1536), 2) == (12, 4, 1536)


def test_a_group_is_split_where_copying_its_key_value_head_is_cheaper_than_filling_up() -> None:
    assert padded_widths(Widths(28, 4, 18944), 8) == (32, 8, 18944)
    assert head_slots(Widths(3, 1, 8), Widths(4, 2, 8)) == ([0, 1, 2, EMPTY], [0, 0])


def test_heads_that_must_divide_the_hidden_size_do_or_there_are_none() -> None:
    assert padded_widths(Widths(8, 4, 9216), 3, within=2304) == (12, 6, 9216)
    assert padded_widths(Widths(8, 4, 9216), 5, within=2304) is None


def test_blocks_go_where_the_slots_say() -> None:
    tensor = torch.arange(1.0, 9.0).reshape(4, 2)
    assert place(tensor, [1, EMPTY, 0, 1], 0, 2)[:, 0].tolist() == [5, 7, 0, 0, 1, 3, 5, 7]
    assert place(tensor, [0, EMPTY], 1, 2)[0].tolist() == [1, 2, 0, 0]


def test_the_command_prints_the_widths_and_a_difference_of_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model_dir(tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "generation_config.json").write_text('{"eos_token_id": 256}')
    output = tmp_path / "padded"
    assert main(["weights", "pad", str(model), "--tensor-parallel", "3", "--to", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "heads          4 -> 6\nkv_heads       2 -> 3\nintermediate   128 -> 129" in printed
    assert "largest logit difference 0;" in printed
    assert f"vllm serve {output} --tensor-parallel-size 3" in printed
    assert sorted(file.name for file in output.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "padding.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((output / "config.json").read_text())["head_dim"] == 16
    assert json.loads((output / "padding.json").read_text())["original"] == "model"  # and not where it lay here


def refusal(model: Path, parallel: int, tmp_path: Path) -> str:
    output = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        pad_model(str(model), parallel, output)
    assert not output.exists()
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


def test_what_cannot_or_need_not_be_padded_is_refused(tmp_path: Path) -> None:
    model = tiny_model_dir(tmp_path / "model")
    assert "needs no padding: 2 divides its 4 query heads" in refusal(model, 2, tmp_path)
    assert "--tensor-parallel 1 needs no padding" in refusal(model, 1, tmp_path)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"intermediate_size": 120}))
    assert "has shape (64, 128); its config.json asks for 120 in dimension 1" in refusal(model, 3, tmp_path)
    (model / "config.json").write_text(json.dumps(config | {"model_type": "olmo2"}))
    assert "model type olmo2 is not among those whose padding is tested" in refusal(model, 3, tmp_path)
    quantized = config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (model / "config.json").write_text(json.dumps(quantized))
    assert "quantized" in refusal(model, 3, tmp_path)


def test_a_gemma_whose_hidden_size_no_fitting_number_of_heads_divides_is_refused(tmp_path: Path) -> None:
    model = random_model("gemma2", tmp_path / "model")
    assert "divides its hidden size 840, and 9 does not" in refusal(model, 9, tmp_path)


def test_an_adapter_is_to_be_merged_first(tmp_path: Path) -> None:
    base = tiny_model_dir(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert f"selfalign weights merge {adapter} --to" in refusal(adapter, 3, tmp_path)
