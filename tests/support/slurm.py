"""SLURM's commands for one machine, as executables on PATH: they record how they were called, and start things here.

`FAKES` is the folder they record in. The batch script and what it starts are real; the scheduler alone is not.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

JOB = "4711"

SBATCH = """
printf '%s\\n' "$@" > "$FAKES/sbatch.args"
cp "$1" "$FAKES/sbatch.script"
echo "Submitted batch job 4711"
"""

REFUSING_SBATCH = """
echo "sbatch: error: invalid partition specified: nowhere" >&2
exit 1
"""

SRUN = """
printf '%s\\n' "$@" > "$FAKES/srun.args"
tasks=1
while [[ $1 == --* ]]; do
  [[ $1 == --ntasks=* ]] && tasks=${1#--ntasks=}
  shift
done
trap 'kill $(jobs -p); wait; exit 143' TERM
for ((task = 0; task < tasks; task++)); do
  SLURM_NODEID=$task "$@" &
done
wait
"""

SCONTROL = """
echo "$*" >> "$FAKES/scontrol.calls"
"""

SINFO = """
cat "$FAKES/head.state" 2>/dev/null || echo alloc
"""


def install(folder: Path, **commands: str) -> Path:
    """A folder for PATH with SLURM's commands, and `commands` beside or instead of them. They record in it."""
    wanted = {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL, "sinfo": SINFO} | commands
    folder.mkdir()
    for name, body in wanted.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\nFAKES={shlex.quote(str(folder))}\n{body}", encoding="utf-8")
        path.chmod(0o755)
    return folder


def environment(fakes: Path) -> dict[str, str]:
    """What SLURM sets for a batch script, with the fakes first on PATH."""
    path = f"{fakes}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "SLURM_JOB_ID": JOB, "SLURMD_NODENAME": "node-0", "SLURM_NODEID": "0"}


def start(script: Path, fakes: Path, **variables: str) -> subprocess.Popen[str]:
    """A batch script under way, as slurmd starts it: its output in `FAKES/log`, nothing to read."""
    with (fakes / "log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            ["bash", str(script)],
            env=environment(fakes) | variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def directives(script: str) -> dict[str, str]:
    """What the lines `#SBATCH` ask for, read as sbatch reads them: until the first command."""
    found: dict[str, str] = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH "):
            for word in shlex.split(line.removeprefix("#SBATCH ")):
                name, _, value = word.partition("=")
                found[name.lstrip("-")] = value
        elif line.strip() and not line.startswith("#"):
            break
    return found
