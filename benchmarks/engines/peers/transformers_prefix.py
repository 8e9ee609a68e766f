"""transformers' `generate` on the prefix's keys and values, computed once and copied for every sequence."""

from __future__ import annotations

import copy
from typing import Any

from benchmarks.engines.job import Job, Loaded, Work
from benchmarks.engines.peers.hugging_face import batches, load_plain, padded, sampling, versions
from benchmarks.engines.peers.transformers_generate import spread


def load(job: Job) -> Loaded:
    """`batch_size` is the only option."""
    import torch

    model = load_plain(job)
    size = int(job.options["batch_size"])

    def run(work: Work, new_tokens: int) -> list[int]:
        counts = [0] * len(work.prompts)
        with torch.inference_mode():
            cache = prefix_cache(model, work.prefix_ids)
            for batch in batches(work, size):
                ids, mask = behind_prefix(work, batch, model.device)
                copied = copy.deepcopy(cache)
                copied.batch_repeat_interleave(len(batch))
                out = model.generate(
                    input_ids=ids, attention_mask=mask, past_key_values=copied, **sampling(job, new_tokens)
                )
                counts = spread(counts, batch, out.shape[1] - ids.shape[1])
        return counts

    return Loaded(run, {"batch_size": size, "dtype": job.dtype, "attention": "sdpa"}, versions())


def prefix_cache(model: Any, prefix_ids: list[int]) -> Any:
    """Keys and values of the prefix, batch 1."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prefix_ids], device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def behind_prefix(work: Work, batch: list[int], device: Any) -> tuple[Any, Any]:
    """Ids and mask [B, P + T]: the prefix, then padding, then a prompt, so that the cached part is alike for all."""
    import torch

    ids, mask = padded([work.prompt_ids[index] for index in batch], device)
    prefix = torch.tensor([work.prefix_ids] * len(batch), device=device)
    return torch.cat([prefix, ids], 1), torch.cat([torch.ones_like(prefix), mask], 1)
