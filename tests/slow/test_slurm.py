"""A submitted job run for real: the script of `selfalign launch slurm` on this machine, with Ray and without SLURM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selfalign.cli.main import main
from tests.constitution.small import SMALL
from tests.support.slurm import JOB, SBATCH, environment, install

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
AT_ONCE = SBATCH + 'bash "$1" > "$FAKES/log" 2>&1 < /dev/null\necho $? > "$FAKES/status"\n'


def test_a_submitted_job_runs_its_recipe_over_ray_and_takes_ray_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    recipe = tmp_path / "demo.yaml"
    content = {
        "constitution": str(tmp_path / "small.yaml"),
        "engine": {"kind": "scripted", "script": "tests.support.scripts:answer", "replicas": 2},
        "topics": {"per_type": 2, "rounds": 1},
    }
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    fakes = install(tmp_path / "fakes", sbatch=AT_ONCE)
    for name, value in environment(fakes).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for Ray's workers too: the script that answers lies in tests/
    out = tmp_path / "a run"
    options = ["--out", str(out), "--cpus-per-node", str(os.cpu_count()), "--until", "topics", "--submit"]
    assert main(["launch", "slurm", str(recipe), *options]) == 0
    log = (fakes / "log").read_text(encoding="utf-8")
    assert (fakes / "status").read_text(encoding="utf-8") == "0\n", log
    assert f"slurm: job {JOB}, 1 of 1 nodes, 2 replicas" in log
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"]["topics"]["state"] == "done"
    records = [json.loads(line) for line in (out / "topics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert records and {record["engine"]["kind"] for record in records} == {"scripted"}
    left = subprocess.run(["pgrep", "-f", f"ray-{JOB}"], capture_output=True, text=True, check=False).stdout
    assert left == "" and not Path(f"/tmp/ray-{JOB}").exists()
    assert str(Path(sys.executable).parent) in (fakes / "sbatch.script").read_text(encoding="utf-8")
    assert f"squeue -j {JOB}" in capsys.readouterr().out
