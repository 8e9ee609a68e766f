"""A submitted job run for real: the script of `selfalign launch slurm` on this machine, with Ray and without SLURM."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

from selfalign.cli.main import main
from tests.constitution.small import SMALL
from tests.support.scripts import SLEEP
from tests.support.slurm import JOB, install, start

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
SECONDS = 180.0
"""For the whole job, which took 40 s on two idle cores."""


def worker_node() -> psutil.Process | None:
    """The raylet of the job's node that is not the head."""
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if (
            process.info["name"] == "raylet"
            and any(f"ray-{JOB}" in word for word in words)
            and not any("--head" in word for word in words)
        ):
            return process
    return None


def test_a_submitted_job_runs_its_recipe_over_ray_nodes_one_of_which_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    recipe = tmp_path / "demo.yaml"
    content = {
        "constitution": str(tmp_path / "small.yaml"),
        "chunk_size": 8,
        "engine": {"kind": "scripted", "script": "tests.support.scripts:slow_answer", "batch_size": 1},
        "topics": {"per_type": 6, "rounds": 2},
    }
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    fakes, out = install(tmp_path / "fakes"), tmp_path / "a run"
    monkeypatch.setenv("PATH", str(fakes), prepend=":")
    options = ["--nodes", "2", "--cpus-per-node", "1", "--until", "topics", "--submit"]
    assert main(["launch", "slurm", str(recipe), "--out", str(out), *options]) == 0

    # PYTHONPATH is for Ray's workers too: the script that answers lies in tests/.
    variables = {"PYTHONPATH": str(ROOT), SLEEP: "0.5", "HEAD_ADDRESS": "127.0.0.1"}
    job = start(fakes / "sbatch.script", fakes, **variables)
    try:
        end = time.monotonic() + SECONDS
        while not (out / "topics.jsonl").exists() and job.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        lost = worker_node()
        assert lost is not None, (fakes / "log").read_text(encoding="utf-8")
        lost.kill()
        code = job.wait(end - time.monotonic())
    finally:
        if job.poll() is None:
            for process in psutil.Process(job.pid).children(recursive=True):
                process.kill()
            job.kill()
    log = (fakes / "log").read_text(encoding="utf-8")
    assert code == 0, log
    assert f"slurm: job {JOB}, 2 of 2 nodes, 2 replicas" in log
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"]["topics"]["state"] == "done"
    keys = [json.loads(line)["key"] for line in (out / "topics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert keys and len(keys) == len(set(keys))
    assert subprocess.run(["pgrep", "-f", f"ray-{JOB}"], capture_output=True, check=False).stdout == b""
    assert not Path(f"/tmp/ray-{JOB}").exists()
