"""lm-evaluation-harness's side of the scoring comparison, in its own environment: `JOB.json OUTCOME.json`.

The task is the harness's own, prompt and all, read from its package at run time; only its data are the local file.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.engines.job import Job

TASK = "truthfulqa_mc1"
SPLIT = "validation"
"""The only split of the task."""


def make_task(data: str, questions: int) -> Any:
    """The harness's MC1 task over the first `questions` rows of the file (0: all)."""
    import datasets
    import yaml
    from lm_eval import tasks
    from lm_eval.api.task import ConfigurableTask

    found = next(Path(tasks.__file__).parent.rglob(f"{TASK}.yaml"))
    config = yaml.safe_load(found.read_text(encoding="utf-8"))
    rows = [row(entry) for entry in json.loads(Path(data).read_text(encoding="utf-8"))[: questions or None]]
    config["custom_dataset"] = lambda **_: datasets.DatasetDict({SPLIT: datasets.Dataset.from_list(rows)})
    config.pop("tag", None)
    return ConfigurableTask(config=config)


def row(entry: dict[str, Any]) -> dict[str, Any]:
    """A question as the Hub's data set has it: choices and labels side by side."""
    targets = entry["mc1_targets"]
    return {"question": entry["question"], "mc1_targets": {"choices": list(targets), "labels": list(targets.values())}}


def measure(job: Job) -> dict[str, Any]:
    """Build the requests, load the model, warm up on one question, score all of them."""
    from lm_eval.models.huggingface import HFLM

    task = make_task(job.options["data"], job.options["questions"])
    task.build_all_requests()
    size = job.options["batch_size"]
    model = HFLM(
        pretrained=job.model_path,
        dtype=job.dtype,
        batch_size=int(size) if size.isdigit() else size,
        device=device(),
    )
    count = len(task.instances)
    model.loglikelihood(task.instances[:1], disable_tqdm=True)
    begin = time.perf_counter()
    answers = model.loglikelihood(task.instances, disable_tqdm=True)
    seconds = time.perf_counter() - begin
    return {
        "requests_per_second": round(count / seconds, 2),
        "seconds": round(seconds, 3),
        "log_probabilities": [answer[0] for answer in answers],
        "candidates": candidates(task.instances),
        "requests": {"pairs": [list(instance.args) for instance in task.instances]},
        "settings": {"dtype": job.dtype, "batch_size": size},
        "versions": {name: importlib.metadata.version(name) for name in ("lm_eval", "torch", "transformers")},
    }


def candidates(instances: list[Any]) -> list[int]:
    """How many requests each question has, in order."""
    sizes: dict[int, int] = {}
    for instance in instances:
        sizes[instance.doc_id] = sizes.get(instance.doc_id, 0) + 1
    return list(sizes.values())


def device() -> str:
    """The accelerator where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(Job.read(Path(sys.argv[1])))), encoding="utf-8")
