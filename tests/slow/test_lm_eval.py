"""The real lm-evaluation-harness on a tiny model, and on an adapter of it, with a task of our own on disk."""

import json
from pathlib import Path

import pytest

from selfalign.cli.main import main
from selfalign.errors import UserError
from selfalign.evaluation import lm_eval
from tests.support.tiny import tiny_model, tiny_model_dir

pytestmark = pytest.mark.slow

TASK = """\
task: lamps
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
metric_list:
  - metric: acc
"""


@pytest.fixture(autouse=True)
def harness_python() -> None:
    """Skip where the environment has no harness."""
    try:
        lm_eval.harness_python()
    except UserError as fault:
        pytest.skip(str(fault))


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """The folder of a task with four questions."""
    rows = [{"question": f"Lamp {i} is", "choices": [" red", " blue as the sea"]} for i in range(4)]
    data = tmp_path / "lamps.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "lamps.yaml").write_text(TASK.format(file=data), encoding="utf-8")
    return folder


def adapter_of(model: Path, target: Path) -> Path:
    """A fresh adapter on the model."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = str(model)
    adapted.save_pretrained(target)
    return target


def test_the_harness_says_what_stands_in_the_results_then(tmp_path: Path, task: Path) -> None:
    model = tiny_model_dir(tmp_path / "model")
    for number, place in enumerate((model, adapter_of(model, tmp_path / "adapter"))):
        output = tmp_path / f"{number}.json"
        words = ["--tasks", "lm-eval:lamps", "--lm-eval-args", f"--include_path {task} --device cpu", "--limit", "3"]
        assert main(["eval", str(place), *words, "--dtype", "float32", "--output", str(output)]) == 0
        row = json.loads(output.read_text(encoding="utf-8"))["results"]["lm-eval:lamps"]
        assert (row["value"], row["n"]) == (1.0, 3)  # the short one is likelier to any random model
        assert row["lm_eval"]["metric"] == "acc,none"


def test_a_task_that_the_harness_does_not_know_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model_dir(tmp_path / "model")
    assert main(["eval", str(model), "--tasks", "lm-eval:no_such_task"]) == 1
    assert "selfalign: lm-eval on no_such_task failed:" in capsys.readouterr().err
