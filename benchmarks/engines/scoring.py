"""Scoring of short candidates: ours against lm-evaluation-harness's `hf` model, on the same TruthfulQA MC1 requests.

    python -m benchmarks.engines scoring --data mc_task.json [--questions 60] [--harness-batches 16,32,64,auto]

The harness's own task makes the prompts, in its own environment; each side then scores the same (context, continuation)
pairs in a fresh process, and the candidate that each likes best is compared question by question.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.engines.compare import Setting, make_job
from benchmarks.engines.job import Job
from benchmarks.engines.peers import Peer
from benchmarks.engines.process import MeasurementFailed, start
from benchmarks.engines.provenance import shown
from benchmarks.engines.table import table

from selfalign.errors import UserError

HARNESS = Peer(
    "benchmarks.engines.scoring_harness",
    "lm_eval",
    "pip install 'lm-eval[hf]' in an environment of its own, named in $SELFALIGN_LM_EVAL_PYTHON",
    "SELFALIGN_LM_EVAL_PYTHON",
    ".venv-lm-eval/bin/python",
)


def compare(setting: Setting, data: Path, questions: int, batches: list[str]) -> dict[str, Any]:
    """Requests/s of both, and the picks; of the harness's batch sizes the fastest counts.

    Raises UserError where the data or the harness is not there.
    """
    if not data.is_file():
        raise UserError(f"no file {data}", "name TruthfulQA's mc_task.json with --data")
    if reason := HARNESS.missing():
        raise UserError(reason, "or set the variable")
    asked = {"data": os.fspath(data.resolve()), "questions": questions}
    job = make_job(replace(setting, instructions=1))
    try:
        tried = {
            size: side(HARNESS.module, replace(job, options=asked | {"batch_size": size}), HARNESS.python)
            for size in batches
        }
        harness = max(tried.values(), key=lambda outcome: outcome["requests_per_second"])
        ours = side("benchmarks.engines.scoring_ours", replace(job, options=harness.pop("requests")), sys.executable)
    except MeasurementFailed as fault:
        raise UserError(f"scoring failed: {fault}", "mend the environment that it names", exit_code=1) from fault
    sizes = harness.pop("candidates")
    picks = compare_picks(sizes, ours.pop("log_probabilities"), harness.pop("log_probabilities"))
    return {
        "model": shown(setting.model),
        "dtype": setting.dtype,
        "questions": len(sizes),
        "requests": sum(sizes),
        "times": round(ours["requests_per_second"] / harness["requests_per_second"], 2),
        "ours": ours,
        "harness": harness,
        "harness_tried": {size: outcome["requests_per_second"] for size, outcome in tried.items()},
        **picks,
    }


def side(module: str, job: Job, python: str) -> dict[str, Any]:
    """One side's outcome."""
    outcome: dict[str, Any] = start(module, [], job, python)
    print(f"{module}: {outcome['requests_per_second']} requests/s", file=sys.stderr, flush=True)
    return outcome


def compare_picks(sizes: list[int], ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Both picks of every question, `sizes[i]` candidates long; the questions where they differ, with both margins.

    A margin is the best log-probability less the next, in nats.
    """
    if not sum(sizes) == len(ours) == len(theirs):
        raise ValueError(f"{sum(sizes)} candidates, {len(ours)} scores of ours, {len(theirs)} of the harness")
    differing, start_at, correct = [], 0, [0, 0]
    for question, size in enumerate(sizes):
        mine, other = (Pick(scores[start_at : start_at + size]) for scores in (ours, theirs))
        start_at += size
        correct = [correct[0] + (mine.best == 0), correct[1] + (other.best == 0)]  # the data has the right one first
        if mine.best != other.best:
            row = {"question": question, "ours": mine.best, "harness": other.best}
            differing.append(row | {"our_margin": mine.margin, "harness_margin": other.margin})
    furthest = max((abs(a - b) for a, b in zip(ours, theirs, strict=True)), default=0.0)
    return {
        "same_picks": len(sizes) - len(differing),
        "differing": differing,
        "furthest_apart_nats": round(furthest, 4),
        "accuracy": {"ours": correct[0] / len(sizes), "harness": correct[1] / len(sizes)},
    }


class Pick:
    """The candidate that a list of log-probabilities prefers, the first where two are equal."""

    def __init__(self, scores: list[float]) -> None:
        ranked = sorted(range(len(scores)), key=lambda index: -scores[index])
        self.best = ranked[0]
        self.margin = round(scores[ranked[0]] - scores[ranked[1]], 4) if len(scores) > 1 else float("inf")


def text(result: dict[str, Any]) -> str:
    """For the eye."""
    rows: list[list[object]] = []
    for name in ("ours", "harness"):
        row = result[name]
        accuracy = round(result["accuracy"][name], 4)
        rows.append([name, row["requests_per_second"], row["seconds"], accuracy, json.dumps(row["settings"])])
    lines = [
        table(["scorer", "requests/s", "seconds", "MC1", "settings"], rows),
        f"{result['times']} times the harness; {result['requests']} requests, {result['questions']} questions",
        f"same picks: {result['same_picks']} of {result['questions']}; "
        f"scores at most {result['furthest_apart_nats']} nats apart",
        *(str(row) for row in result["differing"]),
    ]
    return "\n".join(lines)
