"""`selfalign eval` on the tasks that bring their own questions, and on those that need a judge."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest

from selfalign.cli.judges import judge_of
from selfalign.cli.main import main
from selfalign.engines.base import Request
from selfalign.errors import UserError
from selfalign.evaluation.store import read_outcomes

WITHOUT_DATA = "refusal,candour,identity,form"


def honest(request: Request) -> str:
    """What the scripted model says to everything: as a judge it is prose."""
    return "I don't know, and I am Dromedary."


def silent_about_questions(request: Request) -> str:
    """Nothing."""
    return ""


def scripted(*words: str) -> int:
    return main(["eval", "any", "--engine", "scripted", "--script", f"{__name__}:honest", *words])


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**({"judge": None, "judge_url": None, "engine": "embedded", "model": "any"} | given))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that names its base: all that is looked at."""
    path = tmp_path_factory.mktemp("models")
    for name in ("base/config.json", "base/tokenizer.json", "base/model.safetensors", "adapter/adapter_config.json"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("{}", encoding="utf-8")
    (path / "adapter" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(path / "base")}), encoding="utf-8"
    )
    return path / "adapter"


def test_the_measures_without_a_judge_need_no_data_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "a.json"
    assert scripted("--tasks", WITHOUT_DATA, "--limit", "3", "--output", str(output)) == 0
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert {name: results[name]["value"] for name in ("refusal", "candour", "identity", "form")} == {
        "refusal": 0.5,
        "candour": 1.0,
        "identity": 1.0,
        "form": 1.0,
    }
    assert results["refusal/harmful"]["n"] == 3 and results["form/words"]["unit"] == "words"
    assert read_outcomes(output, "candour")[0].candidates == (honest(Request("", "")),)


def test_a_judge_that_cannot_be_read_judges_nothing_and_the_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "mc_task.json"
    targets = {"Yes.": 1, "No.": 0}
    data.write_text(json.dumps([{"question": "Is it?", "mc1_targets": targets, "mc2_targets": targets}]))
    script = f"{__name__}:silent_about_questions"
    words = ["--engine", "scripted", "--script", script, "--tasks", "truthfulqa-generation", "--data", str(data)]
    assert main(["eval", "any", *words]) == 1
    told = capsys.readouterr().err
    assert "truthfulqa-generation: not one of 1 items could be judged: the answer is empty" in told


def test_a_task_of_which_nothing_could_be_judged_costs_no_other_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "mc_task.json", tmp_path / "a.json"
    targets = {"Yes.": 1, "No, it is not.": 0}
    data.write_text(json.dumps([{"question": "Is it?", "mc1_targets": targets, "mc2_targets": targets}]))
    script = f"{__name__}:silent_about_questions"
    words = ["--engine", "scripted", "--script", script, "--data", str(data), "--output", str(output)]
    assert main(["eval", "any", "--tasks", "truthfulqa-generation,truthfulqa-mc1", *words]) == 1
    told = capsys.readouterr()
    assert "truthfulqa-generation: 1 of 1 could not be judged" in told.out
    assert "not one of 1 items could be judged: the answer is empty" in told.err
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert (results["truthfulqa-generation"]["value"], results["truthfulqa-generation"]["unjudged"]) == (None, 1)
    assert results["truthfulqa-mc1"]["n"] == 1
    assert [row.reason for row in read_outcomes(output, "truthfulqa-generation")] == ["the answer is empty"]


def test_the_base_under_an_adapter_judges_it_where_nobody_else_is_named(adapter: Path) -> None:
    base = str(adapter.parent / "base")
    assert judge_of(options(model=str(adapter)), ["truthfulqa-generation"]) == base
    assert judge_of(options(model=str(adapter)), ["pairwise"]) == base
    other = str(shutil.copytree(base, adapter.parent / "other"))
    assert judge_of(options(model=str(adapter), judge=other), ["pairwise"]) == other
    assert judge_of(options(model=str(adapter)), ["form", "truthfulqa-mc1"]) == ""


def test_a_model_without_a_base_judges_its_own_truth_and_not_its_own_victory(adapter: Path) -> None:
    base = str(adapter.parent / "base")
    assert judge_of(options(model=base), ["truthfulqa-generation"]) == ""
    with pytest.raises(UserError, match="no second model") as fault:
        judge_of(options(model=base), ["pairwise"])
    assert "--judge MODEL" in fault.value.hint
    with pytest.raises(UserError, match="the judge is that very model"):
        judge_of(options(model=base, judge=base), ["pairwise"])
    assert judge_of(options(model=base, judge=base), ["truthfulqa-generation"]) == base
    assert judge_of(options(model=base, judge=base, judge_url="http://127.0.0.1:1/v1"), ["pairwise"]) == base


def test_the_base_of_a_run_judges_it_where_all_weights_were_trained_too(adapter: Path, tmp_path: Path) -> None:
    base = adapter.parent / "base"
    (tmp_path / "run.json").write_text(json.dumps({"base_model": str(base)}))
    shutil.copytree(base, tmp_path / "models" / "final")
    assert judge_of(options(model=str(tmp_path)), ["pairwise"]) == str(base)


def test_a_judge_is_not_loaded_where_nothing_is_judged() -> None:
    assert judge_of(options(judge="other"), ["form"]) == ""


def test_a_judges_server_needs_its_models_name() -> None:
    with pytest.raises(UserError, match="not which model"):
        judge_of(options(judge_url="http://127.0.0.1:1/v1"), ["pairwise"])
