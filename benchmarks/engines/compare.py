"""Engines side by side: every engine and repeat in a fresh process, in the order A B C, A B C."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.engines.job import Job
from benchmarks.engines.peers import PEERS, Peer
from benchmarks.engines.process import MeasurementFailed, start
from benchmarks.engines.provenance import cores, shown
from benchmarks.engines.workload import PREFIX_TOKENS, Workload, workload

TEMPERATURE = 0.5
TOP_P = 0.95
BOUND_BATCHES = (64, 128, 256)


@dataclass(frozen=True)
class Setting:
    """What is compared."""

    model: str
    instructions: int = 64
    new_tokens: int = 128
    dtype: str = "bfloat16"
    repeats: int = 3
    prefix_tokens: int = PREFIX_TOKENS


def make_job(setting: Setting) -> Job:
    """The job of every engine, without its own options."""
    from selfalign.engines.embedded.loading import load_tokenizer, resolve_model
    from selfalign.engines.tokenization import Tokenization

    source = resolve_model(setting.model)
    work: Workload = workload(Tokenization(load_tokenizer(source)), setting.instructions, setting.prefix_tokens)
    return Job(setting.model, source.base, setting.dtype, cores(), setting.new_tokens, TEMPERATURE, TOP_P, *work)


def compare(names: list[str], setting: Setting, with_bound: bool = True) -> dict[str, Any]:
    """Rows of every engine, and the bound. What cannot run has a `skipped` line instead of figures."""
    job = make_job(setting)
    skipped = {name: reason for name in names if (reason := PEERS[name].missing())}
    repeats: dict[str, list[Any]] = {name: [] for name in names}
    products: list[list[dict[str, Any]]] = []
    for repeat in range(setting.repeats):
        for name in [name for name in names if name not in skipped]:
            try:
                repeats[name].append(say(f"{name} {repeat + 1}", measure(PEERS[name], job)))
            except MeasurementFailed as fault:
                skipped[name] = f"failed: {fault}"
                say(name, {"tokens_per_second": skipped[name]})
        if with_bound:
            products.append(measure_bound(job))
    return {
        "workload": describe(job),
        "engines": {name: summary(repeats[name], skipped.get(name, "")) for name in names},
        "bound": best_bound(products),
    }


def measure(peer: Peer, job: Job) -> dict[str, Any]:
    """One repeat of one engine."""
    own = replace(job, dtype=peer.dtype or job.dtype, options={**peer.options, **job.options})
    outcome: dict[str, Any] = start(
        "benchmarks.engines.run_peer", [peer.module], own, peer.python, peer.process_environment(job.threads)
    )
    return outcome


def measure_bound(job: Job, batches: Sequence[int] = BOUND_BATCHES) -> list[dict[str, Any]]:
    """One repeat of the bound."""
    rows: list[dict[str, Any]] = start("benchmarks.engines.bound", [], replace(job, options={"batches": list(batches)}))
    return rows


def best_bound(repeats: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The fastest repeat at each batch size."""
    return [max(rows, key=lambda row: row["tokens_per_second"]) for rows in zip(*repeats, strict=True)]


def summary(repeats: list[dict[str, Any]], skipped: str) -> dict[str, Any]:
    """Each repeat, the median, and what they have in common."""
    if not repeats:
        return {"skipped": skipped}
    common = {key: repeats[0][key] for key in ("settings", "versions")}
    figures = [{key: value for key, value in repeat.items() if key not in common} for repeat in repeats]
    median = statistics.median(repeat["tokens_per_second"] for repeat in repeats)
    return {"median": median, "repeats": figures, **common} | ({"skipped": skipped} if skipped else {})


def describe(job: Job) -> dict[str, Any]:
    """Sizes of the workload, in tokens."""
    own = [len(ids) for ids in job.measured.prompt_ids]
    return {
        "model": shown(job.model),
        "instructions": len(own),
        "shared_tokens": len(job.measured.prefix_ids),
        "unshared_tokens_mean": round(sum(own) / len(own), 1),
        "new_tokens": job.new_tokens,
        "temperature": job.temperature,
        "top_p": job.top_p,
        "dtype": job.dtype,
        "threads": job.threads,
    }


def say(name: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """Progress, on standard error."""
    print(f"{name}: {outcome['tokens_per_second']} tokens/s", file=sys.stderr, flush=True)
    return outcome
