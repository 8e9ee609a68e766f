"""A million records through jobs, verdicts and store: records/s, memory over time, and how soon a killed run goes on.

    python -m benchmarks.runner [--instructions 370000] [--output benchmarks/results/runner.json]

Runs `selfalign run` up to the responses with the scripted engine. Each of the two stages is killed (SIGKILL) when 97 %
of its records are there, started again, and timed until it has written the next record.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines import table
from benchmarks.engines.peers import ROOT
from benchmarks.engines.process import environment

STAGES = ("instructions", "responses")
KILLED_AT = 0.97
POINTS = 12
"""Rows of the table of each stage."""
RECIPE = """\
engine: {{kind: scripted, script: "benchmarks.runner.script:answer"}}
chunk_size: {chunk_size}
topics: {{per_type: 1}}
instructions: {{topic_guided: 0, self_instruct: {instructions}}}
evaluate: {{held_out: 0}}
"""


class Sight(NamedTuple):
    """What was seen `seconds` after the process began; `processor` counts the seconds that it computed."""

    seconds: float
    processor: float
    records: int
    mib: float


@dataclass
class Session:
    """One process of the command, and what was seen of it."""

    run: Path
    stage: str
    process: subprocess.Popen[bytes]
    start: float = field(default_factory=time.monotonic)
    seen: list[Sight] = field(default_factory=list)

    def look(self) -> int:
        """Note how it stands; gives the accepted records of the stage, as the manifest counts them."""
        row = read_stage(self.run, self.stage)
        records = row["accepted"] + sum(row["rejected"].values())
        pid = self.process.pid
        self.seen.append(Sight(time.monotonic() - self.start, processor_seconds(pid), records, resident_mib(pid)))
        return int(row["accepted"])


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        recipe, run = Path(folder) / "recipe.yaml", Path(folder) / "run"
        recipe.write_text(RECIPE.format(**vars(options)), encoding="utf-8")
        stages = {}
        for stage in STAGES:
            goal = options.instructions if stage == "instructions" else read_stage(run, "instructions")["accepted"]
            stages[stage] = measure(recipe, run, stage, goal)
            print(json.dumps(stages[stage]), file=sys.stderr, flush=True)
        result = {"instructions": options.instructions, "chunk_size": options.chunk_size, "stages": stages}
        result |= {"records": sum(row["records"] for row in stages.values()), "mib_on_disk": size_mib(run)}
    table.finish(result, text(result), arguments, options.output, package="benchmarks.runner")
    return 0


def measure(recipe: Path, run: Path, stage: str, goal: int) -> dict[str, Any]:
    """One stage: to the kill, and from there to its end."""
    # Responses come in the order of the instructions, some of which have none: so the kill is set by those judged.
    session = start(recipe, run, stage)
    while done(run, stage) < KILLED_AT * goal:
        wait(session)
    session.process.send_signal(signal.SIGKILL)
    session.process.wait()
    written = size_of(run, stage)
    again = start(recipe, run, stage)
    while size_of(run, stage) <= written and again.process.poll() is None:
        wait(again, 0.05)
    resumed, computed = time.monotonic() - again.start, processor_seconds(again.process.pid)
    while again.process.poll() is None:
        wait(again)
    if again.process.returncode:
        raise SystemExit(f"selfalign run ended with {again.process.returncode}")
    row = read_stage(run, stage)
    first, last = session.seen[0], session.seen[-1]
    return {
        "records": row["accepted"] + sum(row["rejected"].values()),
        "accepted": row["accepted"],
        "rejected": row["rejected"],
        "seconds": round(row["seconds"], 1),
        "records_per_second": round((last.records - first.records) / (last.seconds - first.seconds)),
        "records_per_processor_second": round((last.records - first.records) / (last.processor - first.processor)),
        "resumed_after_seconds": round(resumed, 1),
        "resumed_after_processor_seconds": round(computed, 1),
        "points": points(session.seen),
        "peak_mib": round(max(sight.mib for sight in session.seen + again.seen)),
    }


def start(recipe: Path, run: Path, stage: str) -> Session:
    """The command, as a user starts it; what it says goes to a log."""
    call = [sys.executable, "-m", "selfalign", "run", str(recipe), "--out", str(run), "--until", stage]
    log = (run.parent / f"{stage}.log").open("ab")
    return Session(run, stage, subprocess.Popen(call, cwd=ROOT, env=environment({}), stdout=log, stderr=log))


def wait(session: Session, seconds: float = 1.0) -> None:
    """Look, and look again later. A run that ended before its time is an error."""
    time.sleep(seconds)
    if (session.run / "run.json").exists():
        session.look()
    if session.process.poll():
        tail = (session.run.parent / f"{session.stage}.log").read_text(encoding="utf-8")[-2000:]
        raise SystemExit(f"selfalign run ended with {session.process.returncode}\n{tail}")


def read_stage(run: Path, stage: str) -> dict[str, Any]:
    """What the manifest says of a stage."""
    row: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))["stages"][stage]
    return row


def done(run: Path, stage: str) -> int:
    """Accepted instructions; for responses, instructions that were answered or given up."""
    if not (run / "run.json").exists():
        return 0
    row = read_stage(run, stage)
    return int(row["accepted"] if stage == "instructions" else row["jobs"])


def size_of(run: Path, stage: str) -> int:
    """Bytes of the stage's two files, which grow with every chunk."""
    files = (run / f"{stage}.jsonl", run / "rejected" / f"{stage}.jsonl")
    return sum(file.stat().st_size for file in files if file.exists())


def points(seen: list[Sight]) -> list[dict[str, float]]:
    """Records, records/s since the point before, and memory, at even distances of time."""
    chosen = [seen[round(place * (len(seen) - 1) / POINTS)] for place in range(POINTS + 1)]
    rows = []
    for before, now in pairwise(chosen):
        if now.seconds > before.seconds and now.processor > before.processor:
            more = now.records - before.records
            rows.append(
                {
                    "seconds": round(now.seconds, 1),
                    "records": now.records,
                    "per_second": round(more / (now.seconds - before.seconds)),
                    "per_processor_second": round(more / (now.processor - before.processor)),
                    "mib": round(now.mib),
                }
            )
    return rows


def processor_seconds(pid: int) -> float:
    """Seconds that a process computed, in its own code and in the system's; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Memory of a process as it stands; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)


def size_mib(run: Path) -> int:
    """All files of the run."""
    return round(sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 2**20)


def text(result: dict[str, Any]) -> str:
    """A table a stage."""
    parts = [f"{result['records']:,} records, {result['mib_on_disk']:,} MiB on disk"]
    for stage, row in result["stages"].items():
        columns = ["seconds", "records", "per_second", "per_processor_second", "mib"]
        parts.append(
            f"\n{stage}: {row['records']:,} records, {row['records_per_second']:,} a second "
            f"({row['records_per_processor_second']:,} a second of a processor), "
            f"at most {row['peak_mib']} MiB; killed, it wrote its next record {row['resumed_after_seconds']} s after "
            "it was started again"
        )
        parts.append(table.table(columns, [[point[name] for name in columns] for point in row["points"]]))
    return "\n".join(parts)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The words."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.runner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instructions", type=int, default=370_000, help="accepted instructions wanted")
    parser.add_argument("--chunk-size", type=int, default=1024, help="jobs driven and saved together")
    parser.add_argument("--folder", type=Path, help="where the run is made, and removed (default: the system's)")
    parser.add_argument("--output", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
