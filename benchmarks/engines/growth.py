"""How the embedded engine's speed and memory grow with the batch and with the shared prefix.

python -m benchmarks.engines growth [--batches 1,4,16,64,128,256] [--prefixes 0,500,1000,2000,4000]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from benchmarks.engines.compare import Setting, describe, make_job, measure
from benchmarks.engines.peers import PEERS
from benchmarks.engines.process import MeasurementFailed
from benchmarks.engines.provenance import shown
from benchmarks.engines.table import table

BATCHES = [1, 4, 16, 64, 128, 256]
BATCH_PREFIX = 1650
"""Shared tokens while the batch grows."""
PREFIXES = [0, 500, 1000, 2000, 4000]
PREFIX_BATCH = 64
"""Sequences at once while the prefix grows."""
FEWEST_INSTRUCTIONS = 16
"""Below this batch several batches follow each other, so that computing the prefix (about 2 s) does not rule."""
FREE_FOR_PROMPT = 64
"""Tokens of the context that are kept for a request's own part."""
COLUMNS = ("batch", "prefix", "tokens/s", "prompt tokens", "seconds", "loaded MiB", "peak MiB", "accelerator MiB")


def grow(setting: Setting, batches: list[int], prefixes: list[int]) -> dict[str, Any]:
    """A row a batch size, and a row a prefix length; each in a fresh process."""
    room = context_length(setting.model)
    fits, too_long = split(prefixes, room - setting.new_tokens - FREE_FOR_PROMPT)
    return {
        "model": shown(setting.model),
        "dtype": setting.dtype,
        "new_tokens": setting.new_tokens,
        "batches": [point(setting, batch, BATCH_PREFIX) for batch in batches],
        "prefixes": [point(setting, PREFIX_BATCH, prefix) for prefix in fits],
        "skipped": [f"a prefix of {prefix} tokens: the context holds {room}" for prefix in too_long],
    }


def split(values: list[int], most: int) -> tuple[list[int], list[int]]:
    """Those up to `most`, and the others."""
    return [value for value in values if value <= most], [value for value in values if value > most]


def context_length(model: str) -> int:
    """Tokens that the model's context holds."""
    from transformers import AutoConfig

    from selfalign.engines.embedded.loading import resolve_model

    found: int = AutoConfig.from_pretrained(resolve_model(model).base).max_position_embeddings
    return found


def point(setting: Setting, batch: int, prefix: int) -> dict[str, Any]:
    """One measurement; `failed` instead of figures where the process ended without an outcome."""
    work = replace(setting, instructions=max(batch, FEWEST_INSTRUCTIONS), prefix_tokens=prefix)
    job = replace(make_job(work), options={"batch_size": batch})
    sizes = {"batch": batch, **describe(job)}
    try:
        outcome = measure(PEERS["embedded"], job)
    except MeasurementFailed as fault:
        return sizes | {"failed": str(fault)}
    print(f"batch {batch}, prefix {prefix}: {outcome['tokens_per_second']} tokens/s", file=sys.stderr, flush=True)
    return sizes | {key: value for key, value in outcome.items() if key != "settings"}


def tables(result: dict[str, Any]) -> str:
    """Both tables, and what was skipped."""
    parts = [table(COLUMNS, [cells(row) for row in result[name]]) for name in ("batches", "prefixes")]
    return "\n\n".join([*parts, *result["skipped"]])


def cells(row: dict[str, Any]) -> list[object]:
    """One line."""
    sizes: list[object] = [row["batch"], row["shared_tokens"]]
    if "failed" in row:
        return [*sizes, "failed", *[None] * (len(COLUMNS) - 3)]
    prompt = round(row["shared_tokens"] + row["unshared_tokens_mean"])
    keys = ("seconds", "resident_mib", "peak_mib", "accelerator_peak_mib")
    return [*sizes, round(row["tokens_per_second"], 1), prompt, *(row[key] for key in keys)]
