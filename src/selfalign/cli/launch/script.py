"""The batch script of a job, from `job.sh.j2` beside this file.

It starts Ray on every node by itself, where `ray symmetric-run` (Ray 2.60) would have been shorter, because that

- refuses to start where any other Ray runs on a node, and its `ray stop` at the end stops the user's other jobs there;
- runs the command inside `srun`, where selfalign would take the nodes for the ranks of one training and wait for them;
- ends with status 0 where Ray could not start, and on SIGINT kills the command after a quarter of a second;
- gives up where not exactly `--min-nodes` are there, and does not bring back a node whose Ray ended.

A lost node costs no more than its share: Ray's engine gives its requests to others. What opens the engine later (each
model of a run does) finds fewer GPUs than the recipe wanted, so the script starts the run again with fewer replicas.
"""

from __future__ import annotations

import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from selfalign.cli.launch.cluster import Replicas, cluster_engine
from selfalign.cli.launch.request import Request, option_name
from selfalign.engines.ray.cluster import OBJECT_STORE_BYTES
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions

STOP_SECONDS = 180
"""Before the time limit the run is told to stop: a batch is given up, a training step ends, a node's Ray closes."""

START_SECONDS = 600
"""How long nodes may take to start Ray from a shared disk before the run begins with those that are there."""


class Job(NamedTuple):
    """A recipe on nodes. `recipe_path` and `out` are absolute; `overrides` are the user's own `--set`."""

    request: Request
    recipe_path: Path
    out: Path
    until: str | None
    overrides: tuple[str, ...]
    engine: EngineOptions
    replicas: Replicas

    @property
    def name(self) -> str:
        """The job's name in the queue."""
        return f"selfalign-{self.out.name}"

    def log(self, number: str = "%j") -> str:
        """Where the job's output goes; SLURM puts its number for %j."""
        return f"{self.out}/logs/slurm-{number}.log"


def batch_script(job: Job) -> str:
    """The whole script."""
    from jinja2 import Environment, StrictUndefined

    from selfalign import __version__

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = resources.files("selfalign.cli.launch").joinpath("job.sh.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        version=__version__,
        request=job.request,
        directives=directives(job),
        setup=(job.request.setup or default_setup()).strip(),
        command=run_command(job),
        out=shlex.quote(str(job.out)),
        replicas=job.replicas,
        stop_seconds=stop_seconds(job.request.seconds),
        start_seconds=min(START_SECONDS, max(1, job.request.seconds // 4)),
        store_bytes=OBJECT_STORE_BYTES,
    )


def directives(job: Job) -> list[str]:
    """The lines `#SBATCH ...`; the user's own options come last, and take the place of ours of the same name."""
    request = job.request
    for path in (job.out, Path.cwd()):
        if "\n" in str(path):
            raise UserError(f"{str(path)!r}: no option of sbatch holds a line break", "rename it, or use another --out")
    wanted = {
        "job-name": job.name,
        "nodes": request.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": request.gpus or None,
        "cpus-per-task": request.cpus or None,
        "exclusive": None if request.cpus else "",
        "mem": request.memory,
        "time": request.time,
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "chdir": str(Path.cwd()),
        "output": f"{str(job.out).replace('%', '%%')}/logs/slurm-%j.log",
        "open-mode": "append",
        "requeue": "",
        "no-kill": "",
        "signal": f"B:USR1@{stop_seconds(request.seconds)}",
    }
    theirs = {option_name(word) for word in request.sbatch}
    if theirs & {"gres", "gpus", "G", "gpus-per-task"}:
        theirs.add("gpus-per-node")
    ours = [
        f"--{name}={shlex.quote(str(value))}" if value != "" else f"--{name}"
        for name, value in wanted.items()
        if value is not None and name not in theirs
    ]
    return [f"#SBATCH {line}" for line in [*ours, *request.sbatch]]


def stop_seconds(limit: int) -> int:
    """How long before the time limit the run stops: a quarter of a short one."""
    return max(1, min(STOP_SECONDS, limit // 4))


def default_setup() -> str:
    """The environment that runs this command, whose `selfalign` and `ray` the nodes then find."""
    return f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"


def run_command(job: Job) -> str:
    """`selfalign run` with all that is known before the job starts, an argument a line where there are several."""
    words = [["selfalign", "run", str(job.recipe_path)], ["--out", str(job.out)]]
    words += [["--until", job.until]] if job.until else []
    words += [["--set", override] for override in (*job.overrides, f"engine={cluster_engine(job.engine)}")]
    return " \\\n    ".join(shlex.join(part) for part in words)
