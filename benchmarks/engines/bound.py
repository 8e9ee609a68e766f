"""The bound: what a decode step would take if it were the model's matrix products and nothing else.

    python -m benchmarks.engines bound --model MODEL [--batches 64,128,256]

Every linear layer's own weight is multiplied with a batch of random rows by `torch.nn.functional.linear`, in the order
of the layers, so that weights pass through the caches as they do in a decode step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines.job import Job

RUNS = 8
"""Timed steps of a batch size; the best counts, since a bound is what the machine can do."""
WARM_UP = 3


class Bound(NamedTuple):
    """At one batch size: seconds of the best step, tokens/s, and the arithmetic rate."""

    batch: int
    seconds: float
    tokens_per_second: float
    gflops: float


def bounds(model: Any, batches: list[int], runs: int = RUNS) -> list[Bound]:
    """For each batch size."""
    return [bound(linear_weights(model), batch, runs) for batch in batches]


def linear_weights(model: Any) -> list[Any]:
    """Weight [out, in] of every linear layer, the head too, in the model's order."""
    import torch

    return [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]


def bound(weights: list[Any], batch: int, runs: int) -> Bound:
    """Best of `runs` steps."""
    import torch

    rows = {
        width: torch.randn(batch, width, dtype=weights[0].dtype, device=weights[0].device)
        for width in {weight.shape[1] for weight in weights}
    }
    with torch.inference_mode():
        for _ in range(WARM_UP):
            step(weights, rows)
        seconds = min(step(weights, rows) for _ in range(runs))
    operations = 2 * batch * sum(weight.numel() for weight in weights)
    return Bound(batch, round(seconds, 5), round(batch / seconds, 1), round(operations / seconds / 1e9, 1))


def step(weights: list[Any], rows: dict[int, Any]) -> float:
    """Seconds of one step."""
    import torch

    start = time.perf_counter()
    for weight in weights:
        torch.nn.functional.linear(rows[weight.shape[1]], weight)
    if weights[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(job: str, outcome: str) -> None:
    """In a process of its own; `batches` are in the job's options."""
    from benchmarks.engines.peers.hugging_face import load_plain

    asked = Job.read(Path(job))
    found = bounds(load_plain(asked), list(asked.options["batches"]))
    Path(outcome).write_text(json.dumps([row._asdict() for row in found]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
