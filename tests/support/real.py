"""The embedded default, for the tests that need real weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.engines.embedded.gguf import DEFAULT_MODEL
from selfalign.engines.embedded.loading import Source, resolve_model
from selfalign.errors import UserError
from selfalign.weights.pad import pad_model


def default_source() -> Source:
    """Where its weights are; the test is skipped where it is not installed."""
    try:
        return resolve_model(DEFAULT_MODEL)
    except UserError as fault:
        pytest.skip(str(fault))


def random_adapter(source: Source, target: Path, std: float = 0.1) -> Path:
    """A LoRA adapter of rank 4 with random weights: at 0.1 most texts change, at 0.02 they are still words and end."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(source.base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=std)
    adapted.save_pretrained(target)
    return target


def padded_for_2_and_3(source: Source, folder: Path) -> dict[int, Path]:
    """The model padded for 2 devices, and for 6, which 3 divides (and 2)."""
    for size in (2, 6):
        pad_model(source.base, size, folder / str(size), prove=False)
    return {2: folder / "2", 3: folder / "6"}
