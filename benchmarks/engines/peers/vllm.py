"""vLLM through its own Python interface, in its own environment: token ids in, the prefix cache on."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from benchmarks.engines.job import Job, Loaded, Work

BINDING = ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_KVCACHE_SPACE")
"""Set by the table of peers: as vLLM starts by itself it leaves a core idle."""


def load(job: Job) -> Loaded:
    """Options are arguments of vLLM's `LLM`."""
    import vllm

    arguments: dict[str, Any] = {
        "dtype": job.dtype,
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "max_model_len": longest(job),
        "skip_tokenizer_init": True,
        **job.options,
    }
    engine = vllm.LLM(model=job.model_path, **arguments)

    def run(work: Work, new_tokens: int) -> list[int]:
        sampling = vllm.SamplingParams(
            temperature=job.temperature,
            top_p=job.top_p,
            max_tokens=new_tokens,
            min_tokens=new_tokens,
            ignore_eos=True,
            detokenize=False,
        )
        prompts: Any = [{"prompt_token_ids": ids} for ids in work.sequences]
        return [len(out.outputs[0].token_ids) for out in engine.generate(prompts, sampling, use_tqdm=False)]

    bound = {name: os.environ[name] for name in BINDING if name in os.environ}
    return Loaded(run, arguments | bound, versions())


def longest(job: Job) -> int:
    """Context that the job needs, in whole blocks of 128."""
    most = max(len(ids) for work in (job.measured, job.warm_up) for ids in work.sequences)
    return -(-(most + job.new_tokens + 1) // 128) * 128


def versions() -> dict[str, str]:
    """Of vLLM, by whichever of its names it is installed, and of what it runs on."""
    found = {}
    for name in ("vllm", "vllm-cpu", "torch", "transformers"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
