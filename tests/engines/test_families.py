"""Model families on random weights: what the engine writes and scores, against transformers' own attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.base import Request, Sampling
from selfalign.engines.embedded import attention
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions
from tests.support.tiny import tiny_tokenizer

SMALL: dict[str, Any] = {
    "vocab_size": 258, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "eos_token_id": 256, "pad_token_id": 257,
    "bos_token_id": None,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 1}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral with a window": ("Mistral", {"sliding_window": 24}),
    "gemma": ("Gemma", {"num_key_value_heads": 4}),
    "gemma3": ("Gemma3Text", {"sliding_window": 16, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16}),
    "smollm3": ("SmolLM3", {"no_rope_layer_interval": 2}),
    "olmo2": ("Olmo2", {"num_key_value_heads": 4}),
    "olmo3": ("Olmo3", {"sliding_window": 20}),
}

PREFIX = "Every reply of the assistant is honest and short.\n" * 3
PROMPTS = ["Why?", "Name three rivers of Asia, longest first, and the sea that each flows into.", "So"]


def family_dir(path: Path, name: str, changes: dict[str, Any]) -> Path:
    """A random model of that family with the byte tokenizer, its weights wide enough for greedy texts to differ."""
    import torch
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**(SMALL | changes), initializer_range=0.15)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def greedy(engine: EmbeddedEngine, text: str, count: int) -> str:
    """By whole passes of the model's own attention."""
    import torch

    engine.model.set_attn_implementation("sdpa")
    ids = engine.tokenizer.encode(text)
    start = len(ids)
    for _ in range(count):
        with torch.no_grad():
            token = int(engine.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in engine.ends:
            break
        ids.append(token)
    engine.model.set_attn_implementation(attention.NAME)
    return engine.tokenization.decode(ids[start:])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_writes_and_scores_as_with_its_own_attention(family: str, tmp_path: Path) -> None:
    import torch

    engine = EmbeddedEngine(
        resolve_model(str(family_dir(tmp_path, *FAMILIES[family]))), EngineOptions(dtype="float32", batch_size=2)
    )
    requests = [Request(prompt, prompt, PREFIX, Sampling(0.0, 1.0, 40)) for prompt in PROMPTS]
    written = {completion.key: completion.text for completion in engine.generate(requests)}
    assert written == {prompt: greedy(engine, PREFIX + prompt, 40) for prompt in PROMPTS}

    pairs = [(PREFIX + prompt, text) for prompt in PROMPTS for text in (" Because.", " It is as long as this, or so.")]
    scores = engine.score(pairs)
    engine.model.set_attn_implementation("sdpa")
    for (context, text), score in zip(pairs, scores, strict=True):
        ids, start = engine.tokenizer.encode(context + text), len(engine.tokenizer.encode(context))
        with torch.no_grad():
            logs = engine.model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        expected = sum(float(logs[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert score.log_probability == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Gemma2", {"attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 16}),
        ("Bloom", {"n_layer": 2, "n_head": 4}),
        ("Mamba", {"state_size": 8}),
    ],
)
def test_a_model_that_cannot_be_split_is_refused_by_name(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"cannot split the attention of {name}ForCausalLM") as fault:
        EmbeddedEngine(resolve_model(str(family_dir(tmp_path, name, changes))), EngineOptions(dtype="float32"))
    assert "vllm" in fault.value.hint
