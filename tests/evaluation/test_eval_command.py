"""`selfalign eval` from its words to its files."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign.cli.main import main
from selfalign.errors import RunFailed
from selfalign.evaluation.interchange import to_lm_eval
from selfalign.evaluation.lm_eval import Harness, read_results
from selfalign.evaluation.store import read_outcomes
from tests.evaluation.choices import row, write
from tests.support.tiny import EOS, tiny_model, tiny_tokenizer

ROWS = [row(f"Which lamp is {i}?", ["Red."], ["Blue or green.", "None at all."]) for i in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer has no padding token."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    network = tiny_model(len(tokenizer))
    network.config.pad_token_id = network.generation_config.pad_token_id = None
    network.config.max_position_embeddings = 2048
    network.save_pretrained(path)
    tokenizer.save_pretrained(path)
    assert EOS in (path / "tokenizer.json").read_text(encoding="utf-8")
    return path


def scripted(*words: str) -> int:
    return main(["eval", "any", "--engine", "scripted", "--script", "tests.support.scripts:answer", *words])


def test_a_model_without_a_pad_token_is_measured_and_all_of_it_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "mc_task.json", [*ROWS, {"question": "Broken?"}])
    output = tmp_path / "out" / "a.json"
    words = ["--tasks", "truthfulqa-mc1,truthfulqa-mc2", "--data", str(data), "--output", str(output)]
    assert main(["eval", str(model), "--dtype", "float32", *words]) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()[:3]] == ["task", "truthfulqa-mc1", "truthfulqa-mc2"]
    assert "truthfulqa-mc1: 1 of 4 could not be judged, and count neither right nor wrong" in told.out
    assert "truthfulqa-mc1: 4 of 4" in told.err

    names = sorted(str(file.relative_to(output.parent)) for file in output.parent.rglob("*") if file.is_file())
    items = ["lm-eval.json", "model-index.yaml", "truthfulqa-mc1.jsonl", "truthfulqa-mc2.jsonl"]
    assert names == [*(f"a.items/{name}" for name in items), "a.json"]
    summary = json.loads(output.read_text(encoding="utf-8"))
    assert list(summary) == ["results", "model", "versions", "settings", "engine"]
    mc1 = summary["results"]["truthfulqa-mc1"]
    assert (mc1["n"], mc1["unjudged"], mc1["prompt_format"], mc1["chance"]) == (3, 1, "qa", 0.333333)
    assert summary["engine"]["dtype"] == "float32"
    outcomes = read_outcomes(output, "truthfulqa-mc1")
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    assert sum(values) / len(values) == pytest.approx(mc1["value"], abs=1e-6)
    for outcome in outcomes[:3]:
        best = max(range(3), key=lambda i, found=outcome: found.scores[i])  # type: ignore[misc]
        assert outcome.pick == best and outcome.value == outcome.extra["labels"][best]


def test_json_goes_to_standard_output_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "mc_task.json", ROWS)
    assert scripted("--tasks", "truthfulqa-mc1", "--data", str(data), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["results"]["truthfulqa-mc1"]["value"] == 1.0  # the scripted engine likes the shortest
    assert printed["model"] == "any"


def test_the_originals_fault_is_told_below_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "mc_task.json", ROWS)
    scripted("--tasks", "truthfulqa-mc1", "--data", str(data), "--scoring", "original-first-half")
    assert "reproduces a fault of the released script" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "truthfulqa"], "no task 'truthfulqa'"),
        (["--tasks", ","], "--tasks names none"),
        (["--tasks", "hhh", "--limit", "-1"], "--limit and --seed must be at least 0"),
        (["--tasks", "hhh", "--output", "out.txt"], "--output out.txt is no .json file"),
        (["--tasks", "hhh", "--data", "nowhere"], "no file or directory nowhere"),
    ],
)
def test_bad_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripted(*words) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def test_without_lm_eval_its_tasks_are_refused_with_how_to_get_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFALIGN_LM_EVAL_PYTHON", "nowhere/python")
    assert main(["eval", str(model), "--tasks", "lm-eval:arc_easy,hellaswag"]) == 2
    assert "SELFALIGN_LM_EVAL_PYTHON is nowhere/python" in capsys.readouterr().err


def test_lm_eval_is_looked_for_before_our_own_tasks_take_their_minutes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFALIGN_LM_EVAL_PYTHON", "nowhere/python")
    data = write(tmp_path / "mc_task.json", ROWS)
    assert main(["eval", str(model), "--tasks", "truthfulqa-mc1,lm-eval:arc_easy", "--data", str(data)]) == 2
    assert "truthfulqa-mc1: 3 of 3" not in capsys.readouterr().err


def test_what_our_own_tasks_found_is_kept_where_the_harness_fails(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RunFailed("lm-eval on arc_easy failed: no network")

    monkeypatch.setattr("selfalign.evaluation.lm_eval.harness_python", lambda: "python")
    monkeypatch.setattr("selfalign.evaluation.lm_eval.run_harness", fails)
    data, output = write(tmp_path / "mc_task.json", ROWS), tmp_path / "a.json"
    words = ["--tasks", "truthfulqa-mc1,lm-eval:arc_easy", "--data", str(data), "--output", str(output)]
    assert main(["eval", str(model), *words]) == 1
    assert "lm-eval on arc_easy failed: no network" in capsys.readouterr().err
    summary = json.loads(output.read_text(encoding="utf-8"))
    assert summary["results"]["truthfulqa-mc1"]["n"] == 3
    assert summary["lm_eval"] == {"failed": "lm-eval on arc_easy failed: no network"}


def test_the_harness_is_told_the_base_and_the_adapter() -> None:
    harness = Harness("base", Path("adapter"), "adapter", "float32", 5)
    words = harness.arguments(["arc_easy", "hellaswag"], Path("there"))
    assert words[words.index("--model_args") + 1] == "pretrained=base,tokenizer=adapter,dtype=float32,peft=adapter"
    assert words[words.index("--tasks") + 1] == "arc_easy,hellaswag"
    assert words[-2:] == ["--limit", "5"]


HARNESS_SAID: dict[str, Any] = {
    "results": {
        "arc_easy": {"alias": "arc_easy", "acc,none": 0.5, "acc_stderr,none": 0.05, "acc_norm,none": 0.4},
        "story": {"alias": "story", "perplexity,none": 12.0, "perplexity_stderr,none": "N/A"},
    },
    "n-samples": {"arc_easy": {"original": 200, "effective": 100}},
    "higher_is_better": {"story": {"perplexity": False}},
    "lm_eval_version": "0.4.13",
}


def test_what_the_harness_says_stands_beside_ours_and_goes_back_as_it_was() -> None:
    rows, facts = read_results(HARNESS_SAID)
    arc = rows["lm-eval:arc_easy"]
    assert (arc["value"], arc["n"], arc["prompt_format"]) == (0.5, 100, "lm-eval")
    assert arc["interval"] == pytest.approx([0.402002, 0.597998], abs=1e-6)
    assert (rows["lm-eval:story"]["unit"], rows["lm-eval:story"]["interval"]) == ("perplexity", None)
    assert facts == {"lm_eval_version": "0.4.13"}
    back = to_lm_eval(rows, "m", {})
    assert back["results"]["lm-eval:arc_easy"]["acc_norm,none"] == 0.4
    assert back["higher_is_better"]["lm-eval:story"] == {"perplexity": False}


def test_our_results_read_as_the_harness_and_the_hub_write_theirs(tmp_path: Path) -> None:
    data = write(tmp_path / "mc_task.json", ROWS)
    output = tmp_path / "a.json"
    scripted("--tasks", "truthfulqa-mc1,truthfulqa-mc2", "--data", str(data), "--output", str(output))
    harness = json.loads((tmp_path / "a.items" / "lm-eval.json").read_text(encoding="utf-8"))
    assert harness["results"]["truthfulqa-mc1"]["acc,none"] == 1.0
    assert harness["n-samples"]["truthfulqa-mc1"] == {"original": 3, "effective": 3}
    again, _ = read_results(harness)
    assert again["lm-eval:truthfulqa-mc1"]["value"] == 1.0

    from huggingface_hub.repocard_data import model_index_to_eval_results

    index = yaml.safe_load((tmp_path / "a.items" / "model-index.yaml").read_text(encoding="utf-8"))["model-index"]
    name, results = model_index_to_eval_results(index)
    assert (name, results[0].metric_value) == ("any", 1.0)
    assert results[0].dataset_type == "truthfulqa/truthful_qa"
    assert results[0].dataset_args and results[0].dataset_args["prompt_format"] == "qa"
