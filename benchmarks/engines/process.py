"""Measurements in fresh processes, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.engines.job import Job
from benchmarks.engines.peers import ROOT
from benchmarks.engines.provenance import cores, without_paths

TIMEOUT = 3600
"""Seconds after which a measurement is given up: the slowest peer takes about 25 minutes for 512 instructions."""
TAIL = 12
"""Lines of a failed process's output that are kept."""


class MeasurementFailed(Exception):
    """A process ended without an outcome; the message is the end of its output, without paths."""


def start(module: str, arguments: list[str], job: Job, python: str = "", extra: Mapping[str, str] | None = None) -> Any:
    """Run `python -m module *arguments JOB OUTCOME` to its end and return the outcome. Raises MeasurementFailed."""
    with tempfile.TemporaryDirectory() as folder:
        work, outcome = Path(folder, "job.json"), Path(folder, "outcome.json")
        job.write(work)
        call = [python or sys.executable, "-m", module, *arguments, str(work), str(outcome)]
        try:
            done = subprocess.run(
                call,
                cwd=ROOT,
                env=environment(extra or {}),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as fault:
            raise MeasurementFailed(f"no outcome after {TIMEOUT} s") from fault
        if done.returncode or not outcome.is_file():
            lines = (done.stdout + done.stderr).strip().splitlines()[-TAIL:]
            raise MeasurementFailed(without_paths("\n".join([f"exit status {done.returncode}", *lines])))
        return json.loads(outcome.read_text(encoding="utf-8"))


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """All cores for OpenMP, no network; `extra` wins."""
    ours = {"OMP_NUM_THREADS": str(cores()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **ours, **extra}
