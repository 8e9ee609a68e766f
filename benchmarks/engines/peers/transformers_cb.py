"""transformers' own continuous batching, `generate_batch`, with its paged cache and block sharing."""

from __future__ import annotations

from benchmarks.engines.job import Job, Loaded, Work
from benchmarks.engines.peers.hugging_face import load_plain, sampling, versions


def load(job: Job) -> Loaded:
    """Options are fields of transformers' ContinuousBatchingConfig."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = load_plain(job)

    def run(work: Work, new_tokens: int) -> list[int]:
        arguments = sampling(job, new_tokens)
        del arguments["min_new_tokens"]  # not supported there: the sequences go on for want of an end token
        config = GenerationConfig(**arguments, eos_token_id=-1)
        answers = model.generate_batch(
            work.sequences, config, ContinuousBatchingConfig(**job.options), max_new_tokens=new_tokens
        )
        return [len(answer.generated_tokens) for answer in answers.values()]

    return Loaded(run, {"dtype": job.dtype, **job.options}, versions())
