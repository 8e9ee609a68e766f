"""A byte-level tokenizer and a 2-layer random Llama: what a model test needs without weights or network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EOS = "<|end|>"
PAD = "<|pad|>"


def tiny_tokenizer(bos: str | None = None) -> Any:
    """A `PreTrainedTokenizerFast` with one token a byte, EOS `<|end|>`, PAD `<|pad|>`.

    With `bos`, plain encoding begins with that token, as Llama 3's does; without, none is added.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([EOS, PAD, *([bos] if bos else [])])
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=EOS, pad_token=PAD, bos_token=bos)


def tiny_model(vocab_size: int = 258, seed: int = 0) -> Any:
    """A random `LlamaForCausalLM` in float32: 2 layers, hidden 64, 4 heads, 2 key-value heads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=256,
        pad_token_id=257,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def tiny_model_dir(path: Path, seed: int = 0, ends: bool = True) -> Path:
    """Save the tiny model and its tokenizer in `path`, without a chat template, as a base model is published.

    Where it never `ends` a text by itself, whatever an adapter learns, control tokens have the mean of the others'
    logits: greedily, one of those has more.
    """
    import torch

    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer), seed)
    if not ends:
        with torch.no_grad():
            others = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
            model.lm_head.weight[tokenizer.all_special_ids] = model.lm_head.weight[others].mean(0)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
