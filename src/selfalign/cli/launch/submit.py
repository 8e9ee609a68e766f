"""Handing a batch script to SLURM."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from selfalign.errors import UserError
from selfalign.records import write_atomically


def submit(script: str, out: Path) -> int:
    """Write the script into the run and submit it: the job's number. UserError where sbatch is missing or refuses."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "sbatch is not on this machine's PATH",
            "leave --submit out and add `> job.sh`, then `sbatch job.sh` on a machine of the cluster",
        )
    if problem := make_log_folder(out):
        raise UserError(problem, "name another run directory: --out DIR")
    path = out / "logs" / "slurm" / f"{out.resolve().name}.sh"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, script)
    done = subprocess.run(["sbatch", str(path.resolve())], capture_output=True, text=True, check=False)
    found = re.search(r"Submitted batch job (\d+)", done.stdout)
    if done.returncode or not found:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise UserError(f"sbatch did not take the job: {said}", f"the script is {path}", exit_code=1)
    return int(found[1])


def make_log_folder(out: Path) -> str:
    """Make RUN/logs, without which SLURM ends a job before its first line; what is wrong where it fails, else empty."""
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        return f"cannot make {out / 'logs'}: {fault.strerror}; SLURM needs it before the job starts"
    return ""


def check_shell(script: str, setup: str | None) -> None:
    """UserError where the user's `--setup` makes a script that bash cannot read."""
    if setup is None or shutil.which("bash") is None:
        return
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        why = " ".join(done.stderr.split())
        raise UserError(f"--setup {setup!r} is no shell code: {why}", 'try it by itself: bash -n -c "..."')
