"""From start to ready, over the time that the model alone takes.

python -m benchmarks.serving start [--repeats 5]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.engines.peers import ROOT
from benchmarks.engines.process import MeasurementFailed, environment
from benchmarks.engines.provenance import shown
from benchmarks.serving import contenders
from benchmarks.serving.servers import SPIN, Running

LOAD = """
import sys, time
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
import torch, transformers
began = time.perf_counter()
EmbeddedEngine(resolve_model(sys.argv[1]))
print(time.perf_counter() - began)
"""
"""Loads the model and nothing else."""


def measure(model: str, repeats: int) -> dict[str, Any]:
    """Loading alone, the server with its page, the server without, in turn; seconds from the start of each process."""
    rows = [one_of_each(model) for _ in range(repeats + 1)][1:]  # the first fills the file cache
    medians = {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
    return {
        "model": shown(model),
        **medians,
        "ratio": round(statistics.median(row["ready"] / row["load"] for row in rows), 3),
        "ratio_without_page": round(statistics.median(row["ready_without_page"] / row["load"] for row in rows), 3),
        "repeats": [{name: round(value, 3) for name, value in row.items()} for row in rows],
    }


def one_of_each(model: str) -> dict[str, float]:
    """Seconds of each; `inside` is loading without the imports of torch and transformers before it."""
    load, inside = load_alone(model)
    return {
        "load": load,
        "inside": inside,
        "ready": ready(model),
        "ready_without_page": ready(model, "--no-page"),
    }


def load_alone(model: str) -> tuple[float, float]:
    """(from the process's start to the engine being there, of that the engine's own part)."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", LOAD, model],
        cwd=ROOT,
        env=environment(SPIN),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - began
    if not line:
        raise MeasurementFailed(f"{shown(model)} does not load")
    return taken, float(line)


def ready(model: str, *flags: str) -> float:
    """From the process's start to the first 200 of /readyz."""
    with tempfile.TemporaryDirectory() as place:
        server = Running(contenders.ours(model, *flags), Path(place) / "server.log")
        try:
            return server.wait()
        finally:
            server.stop()


def text(result: dict[str, Any]) -> str:
    """For the eye."""
    return (
        f"loading the model {result['load']:.2f} s from the process's start ({result['inside']:.2f} s of it after the "
        f"imports), server ready after {result['ready']:.2f} s ({result['ratio']} times), without the page "
        f"{result['ready_without_page']:.2f} s ({result['ratio_without_page']} times); medians"
    )
