"""transformers' `generate` as it stands: every prompt read whole, in batches padded on the left."""

from __future__ import annotations

from benchmarks.engines.job import Job, Loaded, Work
from benchmarks.engines.peers.hugging_face import batches, load_plain, padded, sampling, versions


def load(job: Job) -> Loaded:
    """`batch_size` is the only option."""
    import torch

    model = load_plain(job)
    size = int(job.options["batch_size"])

    def run(work: Work, new_tokens: int) -> list[int]:
        counts = [0] * len(work.prompts)
        for batch in batches(work, size):
            ids, mask = padded([work.sequences[index] for index in batch], model.device)
            with torch.inference_mode():
                out = model.generate(input_ids=ids, attention_mask=mask, **sampling(job, new_tokens))
            counts = spread(counts, batch, out.shape[1] - ids.shape[1])
        return counts

    return Loaded(run, {"batch_size": size, "dtype": job.dtype, "attention": "sdpa"}, versions())


def spread(counts: list[int], batch: list[int], new: int) -> list[int]:
    """`counts` with `new` for the prompts of the batch."""
    return [new if index in batch else count for index, count in enumerate(counts)]
