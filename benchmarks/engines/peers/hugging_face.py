"""What the rows that run on transformers have in common: the model, and generation settings that are all said."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from benchmarks.engines.job import Job, Work


def load_plain(job: Job) -> Any:
    """The model as transformers loads it, with PyTorch's fused attention, on all cores or the accelerator."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, job.dtype)
    return (
        AutoModelForCausalLM.from_pretrained(job.model_path, dtype=dtype, attn_implementation="sdpa").to(device).eval()
    )


def sampling(job: Job, new_tokens: int) -> dict[str, Any]:
    """Arguments of `generate`: exactly `new_tokens`, and no top-k, which the library would add."""
    return {
        "do_sample": True,
        "temperature": job.temperature,
        "top_p": job.top_p,
        "top_k": 0,
        "min_new_tokens": new_tokens,
        "max_new_tokens": new_tokens,
        "pad_token_id": 0,
    }


def batches(work: Work, size: int) -> Iterator[list[int]]:
    """Indices of the prompts, the longest first, so that a batch is padded little."""
    order = sorted(range(len(work.prompts)), key=lambda index: -len(work.prompt_ids[index]))
    yield from (order[start : start + size] for start in range(0, len(order), size))


def padded(sequences: list[list[int]], device: Any) -> tuple[Any, Any]:
    """Ids [B, T], padded on the left, and their mask [B, T]."""
    import torch

    width = max(map(len, sequences))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in sequences], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in sequences], device=device)
    return ids, mask


def versions() -> dict[str, str]:
    """Of the packages behind these rows."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
