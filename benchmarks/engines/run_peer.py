"""One engine, one repeat, in a process of its own: load, warm up, time.

python -m benchmarks.engines.run_peer MODULE JOB.json OUTCOME.json
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.engines.job import Job, Loaded

WARM_UP_TOKENS = 8
"""New tokens a warm-up prompt: kernels, caches of primitives and compiled graphs are made in the first few steps."""


def measure(module: str, job: Job) -> dict[str, Any]:
    """Load the engine, warm it up, time the job. Raises ValueError where an engine did not do the whole work."""
    load_average = os.getloadavg()[0]
    start = time.perf_counter()
    loaded: Loaded = importlib.import_module(module).load(job)
    load_seconds = time.perf_counter() - start
    loaded.run(job.warm_up, WARM_UP_TOKENS)
    resident, busy = forget_peak(), processor_seconds()
    start = time.perf_counter()
    counts = loaded.run(job.measured, job.new_tokens)
    seconds = time.perf_counter() - start
    check(counts, job)
    return {
        "tokens": sum(counts),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(sum(counts) / seconds, 2),
        "processor_seconds": round(processor_seconds() - busy, 2),
        "load_seconds": round(load_seconds, 2),
        "resident_mib": resident,
        "peak_mib": memory("VmHWM"),
        "accelerator_peak_mib": accelerator_peak(),
        "load_average": round(load_average, 2),
        "settings": loaded.settings,
        "versions": loaded.versions,
    }


def check(counts: list[int], job: Job) -> None:
    """Every prompt answered in full, or the figures do not compare."""
    expected = [job.new_tokens] * len(job.measured.prompts)
    if counts != expected:
        raise ValueError(f"new tokens of each prompt: {counts}, not {len(expected)} times {job.new_tokens}")


def forget_peak() -> int:
    """Start the peak memory anew, where the system lets a process do that; MiB resident now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory("VmRSS")


def memory(field: str) -> int:
    """MiB of a field of /proc/PID/status, over this process and all below it (0 where there is no /proc)."""
    return sum(status_field(pid, field) for pid in family(os.getpid())) // 1024


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: list[str] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += task.read_text(encoding="ascii").split()
    return [pid, *(member for child in children for member in family(int(child)))]


def status_field(pid: int, field: str) -> int:
    """KiB, or 0 where the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0


def processor_seconds() -> float:
    """Seconds of all cores that this process and those below it had: far below cores x time where others had them."""
    ticks = 0
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def accelerator_peak() -> int:
    """MiB that torch held at most on the accelerator of this process; 0 on a CPU."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated() // 2**20) if torch and torch.cuda.is_available() else 0


def main(module: str, job: str, outcome: str) -> None:
    """Write the outcome; the parent reads the file, since an engine may print what it likes."""
    found = measure(module, Job.read(Path(job)))
    Path(outcome).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
