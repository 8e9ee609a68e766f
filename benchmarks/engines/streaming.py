"""Time to the first token under a cached prefix, over one plain forward pass of the unshared part.

python -m benchmarks.engines streaming [--requests 20]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.engines.compare import Setting, describe, make_job
from benchmarks.engines.job import Job
from benchmarks.engines.process import MeasurementFailed, start

from selfalign.errors import UserError

WARM_UP = 5
"""Prompts that go before the timed ones, on both sides; the first of them computes the prefix."""


def compare(setting: Setting, requests: int) -> dict[str, Any]:
    """The median of both times and of their ratio, prompt by prompt."""
    job = make_job(replace(setting, instructions=requests + WARM_UP))
    try:
        pairs: list[list[float]] = start("benchmarks.engines.streaming", [], job)
    except MeasurementFailed as fault:
        raise UserError(f"streaming failed: {fault}", "mend what it names", exit_code=1) from fault
    return {
        "workload": describe(job),
        "first_token_seconds": round(statistics.median(first for first, _ in pairs), 5),
        "forward_seconds": round(statistics.median(forward for _, forward in pairs), 5),
        "ratio": round(statistics.median(first / forward for first, forward in pairs), 3),
        "repeats": [[round(value, 5) for value in pair] for pair in pairs],
    }


def text(result: dict[str, Any]) -> str:
    """For the eye."""
    first, forward = result["first_token_seconds"] * 1000, result["forward_seconds"] * 1000
    return f"first token {first:.1f} ms, one forward pass {forward:.1f} ms: {result['ratio']} times (median of prompts)"


def measure(job: Job) -> list[tuple[float, float]]:
    """(seconds to the first piece of text, seconds of the forward pass) of each prompt, taken in turn."""
    first, forward = first_piece(job), plain_forward(job)
    times = [(first(index), forward(index)) for index in range(len(job.measured.prompts))]
    return times[WARM_UP:]


def first_piece(job: Job) -> Callable[[int], float]:
    """Times the embedded engine's `stream` of a prompt up to its first piece of text, greedy."""
    from selfalign.engines.base import Request, Sampling
    from selfalign.engines.embedded.engine import EmbeddedEngine
    from selfalign.engines.embedded.loading import resolve_model
    from selfalign.recipe import EngineOptions

    options = EngineOptions.model_validate({"kind": "embedded", "dtype": job.dtype})
    engine = EmbeddedEngine(resolve_model(job.model), options)
    work, sampling = job.measured, Sampling(0.0, max_tokens=job.new_tokens, min_tokens=job.new_tokens)

    def seconds(index: int) -> float:
        begin = time.perf_counter()
        pieces = engine.stream(Request(str(index), work.prompts[index], work.prefix, sampling))
        next(iter(pieces))
        taken = time.perf_counter() - begin
        pieces.close()  # type: ignore[attr-defined]
        return taken

    return seconds


def plain_forward(job: Job) -> Callable[[int], float]:
    """Times transformers' forward pass of a prompt's own ids on the prefix's cache, logits of the last token only."""
    import torch
    from benchmarks.engines.peers.hugging_face import load_plain
    from benchmarks.engines.peers.transformers_prefix import prefix_cache

    model = load_plain(job)
    with torch.inference_mode():
        cache = prefix_cache(model, job.measured.prefix_ids)

    def seconds(index: int) -> float:
        ids = torch.tensor([job.measured.prompt_ids[index]], device=model.device)
        with torch.inference_mode():
            begin = time.perf_counter()
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.cpu()
            taken = time.perf_counter() - begin
        cache.crop(-ids.shape[1])
        return taken

    return seconds


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(Job.read(Path(sys.argv[1])))), encoding="utf-8")
