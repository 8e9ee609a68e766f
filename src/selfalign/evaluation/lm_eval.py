"""Tasks of lm-evaluation-harness: the model is handed to an installed one, and what it says is stored beside ours.

It runs as a process of its own, with this Python or that of $SELFALIGN_LM_EVAL_PYTHON: it may need other versions of
the libraries than we do, and its memory is gone when it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.errors import RunFailed, UserError
from selfalign.evaluation.statistics import Z

VARIABLE = "SELFALIGN_LM_EVAL_PYTHON"
INSTALL = f"pip install 'lm-eval[hf]', or name the Python of another environment that has it: {VARIABLE}=.../bin/python"


class Harness(NamedTuple):
    """What the harness is told: a merged model or a base with an adapter, the arithmetic, and how many questions."""

    model: str
    adapter: Path | None
    tokenizer: str
    dtype: str
    limit: int

    def arguments(self, tasks: Sequence[str], output: Path) -> list[str]:
        """Its command line after `-m lm_eval`."""
        model = {"pretrained": self.model, "tokenizer": self.tokenizer, "dtype": self.dtype}
        if self.adapter:
            model["peft"] = str(self.adapter)
        told = ",".join(f"{name}={value}" for name, value in model.items())
        words = ["--model", "hf", "--model_args", told, "--tasks", ",".join(tasks), "--output_path", str(output)]
        return words + (["--limit", str(self.limit)] if self.limit else [])


def run_harness(
    harness: Harness, tasks: Sequence[str], more: Sequence[str] = ()
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The rows of a results file, named `lm-eval:TASK`, and the harness's facts.

    Its own progress goes to standard error. UserError where it is not installed or does not know a task; RunFailed
    with its last line where it fails.
    """
    python = harness_python()
    with tempfile.TemporaryDirectory(prefix="selfalign-lm-eval-") as folder:
        command = [python, "-m", "lm_eval", *harness.arguments(tasks, Path(folder)), *more]
        status, last = follow(command)
        files = sorted(Path(folder).rglob("results*.json"))
        if status or not files:
            raise RunFailed(f"lm-eval on {','.join(tasks)} failed: {last}", "mend what it says, or leave them out")
        return read_results(json.loads(files[-1].read_text(encoding="utf-8")))


def follow(command: Sequence[str]) -> tuple[int, str]:
    """Run it, what it says going to standard error as it comes; its exit status and its last line."""
    last = "it wrote no results"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                sys.stderr.write(line)
                last = line.strip() or last
        except BaseException:  # Ctrl-C and the like: it must not go on without us
            process.terminate()
            raise
    return process.returncode, last


def harness_python() -> str:
    """The Python that has the harness. UserError where it has none."""
    python = os.environ.get(VARIABLE) or sys.executable
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('lm_eval') is None)"
    try:
        found = subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0
    except OSError as fault:
        raise UserError(f"{VARIABLE} is {python}: {fault.strerror}", "name a Python that has lm_eval") from fault
    if not found:
        raise UserError("lm-evaluation-harness (lm_eval) is not installed", INSTALL)
    return python


def read_results(content: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Rows and facts of a results file of the harness (0.4)."""
    counts = content.get("n-samples", {})
    rows = {
        f"lm-eval:{task}": row_of(metrics, counts.get(task, {}), content.get("higher_is_better", {}).get(task, {}))
        for task, metrics in content["results"].items()
    }
    names = ("lm_eval_version", "transformers_version", "git_hash", "versions", "n-shot")
    return rows, {name: content[name] for name in names if name in content}


def row_of(metrics: Mapping[str, Any], counts: Mapping[str, int], better: Mapping[str, bool]) -> dict[str, Any]:
    """The task's first metric as our figure; its interval is 1.96 of the harness's standard errors. All are kept."""
    figures = {name: value for name, value in metrics.items() if isinstance(value, int | float) and "," in name}
    name = next((name for name in figures if "_stderr," not in name), "")
    value = figures.get(name)
    metric, _, kind = name.partition(",")
    error = figures.get(f"{metric}_stderr,{kind}")
    interval = [round(value - Z * error, 6), round(value + Z * error, 6)] if value is not None and error else None
    return {
        "value": value,
        "n": counts.get("effective", 0),
        "interval": interval,
        "chance": None,
        "prompt_format": "lm-eval",
        "unjudged": 0,
        "interval_method": "normal" if interval else "",
        "unit": "share" if metric.startswith(("acc", "exact_match")) else metric,
        "higher_is_better": better.get(metric, True),
        "lm_eval": {"metric": name, "metrics": dict(metrics)},
    }
