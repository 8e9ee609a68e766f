"""The real model, two small rounds: killed five times it gives what an unbroken run gives, and the result answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.embedded.gguf import DEFAULT_MODEL, default_gguf
from selfalign.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RECIPE = """
chunk_size: 8
topics: {per_type: 2, rounds: 1, temperature: 0.8, top_p: 0.95, max_tokens: 24}
instructions: {topic_guided: 8, self_instruct: 8, temperature: 0.8, top_p: 0.95, max_tokens: 48}
responses: {max_tokens: 64, thought_tokens: 48, attempts: 2}
engrave: {num_train_epochs: 1, warmup_steps: 1, validation_rows: 16, identity_copies: 0}
rounds: 2
gate: {max_tokens: 48, min_stop_rate: 0, max_leak_rate: 1, max_loss_ratio: 2}  # one row says little
elaborations: {max_tokens: 64}
# at 1e-3 and 76 steps even this little data teaches the model its name; one pass at 4e-4 does not
clone: {num_train_epochs: 2, warmup_steps: 1, validation_rows: 0, learning_rate: 0.001, per_device_train_batch_size: 4}
evaluate: {held_out: 2, max_tokens: 48}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        default_gguf()
    except UserError as fault:
        pytest.skip(str(fault))
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(f"base_model: {DEFAULT_MODEL}\n{RECIPE}", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    out = recipe.parent / "undisturbed"
    assert start(recipe, out).wait() == 0
    return out


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "selfalign", "run", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def texts(run: Path) -> dict[str, dict[str, str]]:
    """File -> key -> line, failing on a key that stands twice."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted([*run.glob("*.jsonl"), *run.glob("rejected/*.jsonl"), *run.glob("evaluation/*.jsonl")]):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        keys = [row["key"] for row in rows]
        assert len(keys) == len(set(keys)), path
        found[str(path.relative_to(run))] = {row["key"]: json.dumps(row, sort_keys=True) for row in rows}
    return found


def stages(run: Path) -> dict[str, Any]:
    manifest = run / "run.json"
    found: dict[str, Any] = json.loads(manifest.read_text())["stages"] if manifest.is_file() else {}
    return found


def gates(run: Path) -> dict[str, Any]:
    return {name: stage["gate"] for name, stage in stages(run).items() if "gate" in stage}


def kill_in(recipe: Path, out: Path, stage: str) -> None:
    """Kill -9 as soon as the stage runs; a stage that was over too soon is killed in the next one."""
    kill_when(recipe, out, lambda: stages(out).get(stage, {}).get("state", "pending") != "pending", seconds=1.0)


def kill_when(recipe: Path, out: Path, is_time: Callable[[], bool], seconds: float) -> None:
    process = start(recipe, out)
    while process.poll() is None and not is_time():
        time.sleep(0.02)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_five_times_it_gives_the_same_records_and_gates(recipe: Path, undisturbed: Path) -> None:
    out = recipe.parent / "killed"
    kill_in(recipe, out, "responses")
    kill_in(recipe, out, "engrave")
    kill_when(recipe, out, lambda: "training" in stages(out)["engrave"], seconds=0.1)
    assert "gate" not in stages(out)["engrave"], "the gate was over before the kill"
    for stage in ("responses-2", "elaborations"):
        kill_in(recipe, out, stage)
        assert stages(out)["report"]["state"] != "done"
    assert start(recipe, out).wait() == 0
    assert texts(out) == texts(undisturbed)
    assert gates(out) == gates(undisturbed)
    assert "engrave" in gates(out)
    assert {row["state"] for row in stages(out).values()} <= {"done", "skipped"}
    assert (out / "report.html").is_file()


def test_transformers_pipeline_answers_in_the_assistants_name(undisturbed: Path) -> None:
    from transformers import pipeline

    assistant = pipeline("text-generation", model=str(undisturbed / "models" / "final"))
    question = [{"role": "user", "content": "Who are you?"}]
    answer = assistant(question, max_new_tokens=60, do_sample=False)[0]["generated_text"][-1]["content"]
    assert "Dromedary" in answer


def test_piped_chat_answers_each_line(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "selfalign", "chat", str(undisturbed), "--temperature", "0", "--max-tokens", "40"]
    done = subprocess.run(command, input="Who are you?\nWho made you?\n", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert "Dromedary" in done.stdout
    assert "Traceback" not in done.stderr
