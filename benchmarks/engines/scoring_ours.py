"""Our side of the scoring comparison, in a process of its own: `JOB.json OUTCOME.json`, pairs in the job's options."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.engines.job import Job

WARM_UP = [("The sea is", " wide"), ("The sea is", " a wide water that nobody has measured")]


def measure(job: Job) -> dict[str, Any]:
    """Score all pairs in one call, after a warm-up on two others."""
    from selfalign.engines.embedded.engine import EmbeddedEngine
    from selfalign.engines.embedded.loading import resolve_model
    from selfalign.recipe import EngineOptions

    options = EngineOptions.model_validate({"kind": "embedded", "dtype": job.dtype})
    engine = EmbeddedEngine(resolve_model(job.model), options)
    pairs = [(context, continuation) for context, continuation in job.options["pairs"]]
    engine.score(WARM_UP)
    begin = time.perf_counter()
    scores = engine.score(pairs)
    seconds = time.perf_counter() - begin
    return {
        "requests_per_second": round(len(pairs) / seconds, 2),
        "seconds": round(seconds, 3),
        "log_probabilities": [score.log_probability for score in scores],
        "settings": {"dtype": job.dtype, "batch_size": options.batch_size},
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(Job.read(Path(sys.argv[1])))), encoding="utf-8")
