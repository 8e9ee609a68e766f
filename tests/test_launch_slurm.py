"""`selfalign launch slurm`: the script's text, what is refused, and the script run for real under a fake SLURM."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from selfalign.cli.launch.nodes import count_nodes
from selfalign.cli.launch.request import seconds_of
from selfalign.cli.main import main
from selfalign.errors import UserError
from tests.constitution.small import SMALL
from tests.support.slurm import JOB, REFUSING_SBATCH, directives, install, start

ROOT = Path(__file__).parents[1]
SCRIPTED = '{"kind": "scripted", "script": "tests.support.scripts:answer"}'

FAKE_RAY = """
echo "$SLURM_NODEID $*" >> "$FAKES/ray.calls"
exec sleep 60
"""

COUNTED_NODES = """
if [ "$1 $2" = "launch nodes" ]; then
  answers="$FAKES/nodes"
  head -n 1 "$answers"
  [ "$(wc -l < "$answers")" -eq 1 ] || sed -i 1d "$answers"
  exit
fi
echo "$*" >> "$FAKES/run.calls"
"""
"""A `selfalign` that reads the count of nodes from a file, a line a question, the last for ever."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    path = tmp_path / "demo.yaml"
    sizes = "topics: {per_type: 2, rounds: 1}\n"
    path.write_text(f"constitution: {tmp_path / 'small.yaml'}\nengine: vllm\n{sizes}", encoding="utf-8")
    return path


@pytest.fixture
def printed(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The script that a command line prints, read through by bash."""

    def call(*arguments: str, out: str = "run") -> str:
        capsys.readouterr()
        assert main(["launch", "slurm", str(recipe), "--out", str(tmp_path / out), *arguments]) == 0
        script = capsys.readouterr().out
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False).stderr == ""
        return script

    return call


def words_of_run(script: str) -> list[str]:
    """The words of `selfalign run ...` in a script, as the shell would split them."""
    start_at = script.index("selfalign run ", script.index("set -m"))
    return shlex.split(script[start_at : script.index("&\n", start_at)].replace("\\\n", " "))


def wait_for(path: Path, text: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text(encoding="utf-8")):
        assert time.monotonic() < end, path.read_text(encoding="utf-8") if path.exists() else f"no {path}"
        time.sleep(0.02)


# --------------------------------------------------------------------------------------------------------- the script


def test_a_script_asks_for_what_was_said_and_survives_lost_nodes(printed: Callable[..., str], tmp_path: Path) -> None:
    options = (
        "--nodes 4 --gpus-per-node 8 --cpus-per-node 64 --time 2-12 --partition a100,h100 --account lab --qos long"
    )
    script = printed(*options.split(), "--mem", "500G", "--sbatch", "--constraint=ib", "--sbatch", "mail-type=END")
    asked = directives(script)
    assert asked == {
        "job-name": "selfalign-run",
        "nodes": "4",
        "ntasks-per-node": "1",
        "gpus-per-node": "8",
        "cpus-per-task": "64",
        "mem": "500G",
        "time": "2-12",
        "partition": "a100,h100",
        "account": "lab",
        "qos": "long",
        "chdir": str(Path.cwd()),
        "output": f"{tmp_path}/run/logs/slurm-%j.log",
        "open-mode": "append",
        "requeue": "",
        "no-kill": "",
        "signal": "B:USR1@180",
        "constraint": "ib",
        "mail-type": "END",
    }
    assert "--no-kill --kill-on-bad-exit=0 --wait=0" in script
    assert "replicas=32\n  room=$((nodes * 8))" in script


def test_without_cpus_a_job_takes_whole_nodes_and_one_node_talks_to_itself(printed: Callable[..., str]) -> None:
    script = printed()
    asked = directives(script)
    assert "exclusive" in asked and not {"gpus-per-node", "cpus-per-task", "mem", "partition"} & asked.keys()
    assert "head_address=${HEAD_ADDRESS:-127.0.0.1}" in script
    assert str(Path(sys.executable).parent) in script
    assert "room=" not in script


def test_a_short_job_keeps_most_of_its_time_and_a_users_own_option_replaces_ours(printed: Callable[..., str]) -> None:
    asked = directives(printed("--time", "2:00", "--gpus-per-node", "4", "--sbatch", "--gres=gpu:a100:4"))
    assert asked["signal"] == "B:USR1@30"
    assert asked["gres"] == "gpu:a100:4" and "gpus-per-node" not in asked
    asked = directives(printed("--sbatch", "--open-mode=truncate"))
    assert asked["open-mode"] == "truncate"


def test_the_recipes_engine_goes_inside_ray_with_its_own_options(printed: Callable[..., str], recipe: Path) -> None:
    engine = "engine={kind: vllm, tensor_parallel_size: 2, pipeline_parallel_size: 2}"
    script = printed("--nodes", "3", "--gpus-per-node", "8", "--set", engine, "--until", "responses")
    words = words_of_run(script)
    assert words[:2] == ["selfalign", "run"] and words[words.index("--until") + 1] == "responses"
    spread = json.loads(words[words.index("engine=" + engine.removeprefix("engine=")) + 2].removeprefix("engine="))
    assert spread == {"kind": "ray", "inside": "vllm", "tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    assert "replicas=6\n" in script
    named = printed("--nodes", "3", "--gpus-per-node", "8", "--set", "engine={kind: ray, replicas: 5}")
    assert '"inside": "embedded"' in named and "replicas=5\n" in named


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("1-2", 93_600), ("1-2:30", 95_400), ("1-2:30:15", 95_415)],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nodes", "0"], "--nodes must be at least 1, is 0"),
        (["--gpus-per-node", "-1"], "--gpus-per-node must not be below 0, is -1"),
        (["--time", "soon"], "--time 'soon' is no time limit"),
        (["--time", "1:2:3:4"], "--time '1:2:3:4' is no time limit"),
        (["--time", "0"], "--time '0' is no time limit"),
        (["--partition", "gpu\n#SBATCH --wrap=rm"], "--partition 'gpu\\n#SBATCH --wrap=rm' is no name"),
        (["--account", 'lab"'], "--account 'lab\"' is no name"),
        (["--qos", "a b"], "--qos 'a b' is no name"),
        (["--mem", "much"], "--mem 'much' is no amount of memory"),
        (["--sbatch", "--a\nb"], "--sbatch '--a\\nb' is no option"),
        (["--sbatch", "--nodes=9"], "use --nodes of selfalign launch slurm"),
        (["--until", "dinner"], "--until 'dinner' is no stage"),
        (["--setup", "if true"], "--setup 'if true' is no shell code"),
        (["--set", "engine=openai"], "nothing to spread over nodes"),
        (["--set", "engine={kind: vllm, tensor_parallel_size: 16}", "--gpus-per-node", "8"], "and a node has 8"),
        (["--set", "engine={kind: vllm, replicas: 9}", "--gpus-per-node", "8"], "have room for 8"),
        (["--set", "constitution=none.yaml"], "none.yaml"),
        (["--set", "seed=-1"], "seed: -1"),
    ],
)
def test_what_would_fail_in_the_queue_is_told_at_once(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["launch", "slurm", str(recipe), "--out", str(tmp_path / "run"), *arguments]) == 2
    said = capsys.readouterr()
    assert told in said.err and "Traceback" not in said.err
    assert "next: " in said.err or "stages are topics" in said.err
    assert said.out == ""


def test_a_missing_recipe_and_a_directory_of_something_else_are_told(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["launch", "slurm", str(tmp_path / "none.yaml")]) == 2
    assert "no recipe at" in capsys.readouterr().err
    assert main(["launch", "slurm", str(recipe), "--out", str(tmp_path)]) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err


def test_trainings_over_several_machines_are_told_to_be_a_job_of_their_own(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "two.yaml"
    config.write_text("num_machines: 2\nnum_processes: 4\n", encoding="utf-8")
    run = ["launch", "slurm", str(recipe), "--out", str(tmp_path / "run")]
    arguments = [*run, "--set", f"launch.config_file={config}"]
    assert main(arguments) == 2
    assert "srun --ntasks-per-node=GPUS selfalign run RECIPE" in capsys.readouterr().err
    assert main([*arguments, "--until", "responses"]) == 0


# ------------------------------------------------------------------------------------------------------------ sbatch


def test_submit_writes_the_script_into_the_run_and_tells_the_jobs_number(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes = install(tmp_path / "fakes")
    monkeypatch.setenv("PATH", f"{fakes}:{os.environ['PATH']}")
    out = tmp_path / "a run"
    assert main(["launch", "slurm", str(recipe), "--out", str(out), "--nodes", "2", "--submit"]) == 0
    script = out / "logs" / "slurm" / "a run.sh"
    assert (fakes / "sbatch.args").read_text(encoding="utf-8") == f"{script}\n"
    assert directives(script.read_text(encoding="utf-8"))["output"] == f"{out}/logs/slurm-%j.log"
    said = capsys.readouterr().out
    assert f"squeue -j {JOB}" in said and f"selfalign status {out}" in said and f"slurm-{JOB}.log" in said


def test_a_refusal_of_sbatch_is_told_in_its_own_words(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes = install(tmp_path / "fakes", sbatch=REFUSING_SBATCH)
    monkeypatch.setenv("PATH", f"{fakes}:{os.environ['PATH']}")
    arguments = ["launch", "slurm", str(recipe), "--out", str(tmp_path / "run"), "--submit"]
    assert main(arguments) == 1
    assert "invalid partition specified: nowhere" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "sbatch is not on this machine's PATH" in said and "> job.sh" in said


# ---------------------------------------------------------------------------------------------------- the script runs


def write_script(script: str, tmp_path: Path) -> Path:
    path = tmp_path / "job.sh"
    path.write_text(script, encoding="utf-8")
    return path


def test_the_script_runs_a_recipe_whatever_its_names_hold(
    printed: Callable[..., str], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = f"""
if [ "$1 $2" = "launch nodes" ]; then echo 2; exit; fi
exec {shlex.quote(sys.executable)} -m selfalign "$@" --set {shlex.quote(f"engine={SCRIPTED}")}
"""
    fakes = install(tmp_path / "fakes", ray=FAKE_RAY, selfalign=real)
    name = 'O\'Hara "of" $HOME `date`'
    setup = f"export PATH={shlex.quote(str(fakes))}:$PATH"
    given = ("--nodes", "2", "--until", "topics", "--setup", setup, "--set", f"identity_name={json.dumps(name)}")
    script = write_script(printed(*given, out="it's a run; $x"), tmp_path)
    job = start(script, fakes, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    assert job.wait(60) == 0, (fakes / "log").read_text(encoding="utf-8")
    out = tmp_path / "it's a run; $x"
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"]["topics"]["state"] == "done"
    assert yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))["identity_name"] == name
    log = (fakes / "log").read_text(encoding="utf-8")
    assert f"slurm: job {JOB}, 2 of 2 nodes, 2 replicas" in log
    calls = sorted((fakes / "ray.calls").read_text(encoding="utf-8").splitlines())
    port = 20000 + int(JOB) % 1200 * 10
    assert calls[0].startswith("0 start --head --node-ip-address=") and f"--port={port} " in calls[0]
    assert calls[1].startswith("1 start --address=") and f":{port} " in calls[1]
    assert not (fakes / "scontrol.calls").exists()
    assert (
        main(["launch", "slurm", str(recipe), "--out", str(out), "--set", f"engine={SCRIPTED}", "--set", "seed=7"]) == 2
    )
    assert "was made by other settings" in capsys.readouterr().err


def test_a_run_that_lost_a_node_goes_on_with_the_others_and_any_other_fault_ends_the_job(
    printed: Callable[..., str], tmp_path: Path
) -> None:
    lost = COUNTED_NODES + '[ "$(wc -l < "$FAKES/run.calls")" -eq 2 ] || exit 2\n'
    fakes = install(tmp_path / "fakes", ray=FAKE_RAY, selfalign=lost)
    setup = ("--setup", f"export PATH={shlex.quote(str(fakes))}:$PATH")
    script = write_script(printed("--nodes", "3", "--gpus-per-node", "4", *setup), tmp_path)
    (fakes / "nodes").write_text("3\n2\n2\n", encoding="utf-8")
    assert start(script, fakes).wait(30) == 0
    calls = (fakes / "run.calls").read_text(encoding="utf-8").splitlines()
    assert [call.split("engine.replicas=")[1] for call in calls] == ["12", "8"]
    (fakes / "run.calls").unlink()
    (fakes / "nodes").write_text("3\n", encoding="utf-8")
    assert start(script, fakes).wait(30) == 2
    assert len((fakes / "run.calls").read_text(encoding="utf-8").splitlines()) == 1


def test_before_the_time_limit_the_run_is_stopped_and_the_job_requeued(
    printed: Callable[..., str], tmp_path: Path
) -> None:
    trap = 'trap \'echo stopped >> "$FAKES/run.calls"; exit 130\' INT\necho yes > "$FAKES/trap.stands"\n'
    stopping = COUNTED_NODES + trap + "sleep 60 &\nwait\n"
    fakes = install(tmp_path / "fakes", ray=FAKE_RAY, selfalign=stopping)
    (fakes / "nodes").write_text("1\n", encoding="utf-8")
    script = write_script(printed("--setup", f"export PATH={shlex.quote(str(fakes))}:$PATH"), tmp_path)
    job = start(script, fakes)
    wait_for(fakes / "trap.stands", "yes")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 130, (fakes / "log").read_text(encoding="utf-8")
    assert (fakes / "run.calls").read_text(encoding="utf-8").endswith("stopped\n")
    assert (fakes / "scontrol.calls").read_text(encoding="utf-8") == f"requeue {JOB}\n"


def test_a_node_puts_the_job_back_where_the_heads_machine_is_down(printed: Callable[..., str], tmp_path: Path) -> None:
    fakes = install(tmp_path / "fakes", ray="exit 1\n", selfalign="echo 1; sleep 60\n")
    (fakes / "head.state").write_text("down*\n", encoding="utf-8")
    text = printed("--nodes", "2")
    function = text[text.index("ray_node() {") : text.index("export -f")]
    worker = write_script(
        f"{function}\nexport head_node=node-0 head_address=x port=1 ray_folder=/nowhere\nray_node", tmp_path
    )
    job = start(worker, fakes, SLURM_NODEID="1")
    wait_for(fakes / "scontrol.calls", f"requeue {JOB}\n")
    job.terminate()
    assert job.wait(20) == 0


# ------------------------------------------------------------------------------------------------------ launch nodes


class GrowingCluster:
    """A cluster whose nodes come one by one, one of which is lost."""

    def __init__(self) -> None:
        self.looks = 0

    def is_initialized(self) -> bool:
        return True

    def shutdown(self) -> None:
        self.looks = -1

    def nodes(self) -> list[dict[str, bool]]:
        self.looks += 1
        return [{"Alive": False}, *({"Alive": True} for _ in range(self.looks))]


def test_nodes_are_waited_for_and_lost_ones_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign.cli.launch.nodes.POLL", 0.01)
    cluster = GrowingCluster()
    assert count_nodes(cluster, "here:1", 3, 20) == 3
    assert cluster.looks == -1
    assert count_nodes(GrowingCluster(), "here:1", 3, 0) == 1


def test_an_address_where_nobody_answers_is_told_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(ray: object, address: str) -> bool:
        raise UserError(f"engine.address {address!r}: no Ray cluster answers")

    monkeypatch.setattr("selfalign.engines.ray.cluster.join_cluster", nobody)
    monkeypatch.setattr("selfalign.cli.launch.nodes.POLL", 0.01)
    with pytest.raises(UserError, match="no Ray cluster answers"):
        count_nodes(None, "here:1", 1, 0.05)
