"""`selfalign compare`: the stages of runs and other models on the same questions, the base under the principles too."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

import pytest

from selfalign.cli.main import main
from selfalign.constitution.rendering import responses_prefix
from selfalign.engines.base import Request
from selfalign.engines.scripted import ScriptedEngine
from selfalign.errors import UserError
from selfalign.evaluation.prompts import choice_prompt
from selfalign.evaluation.variants import variants_of
from selfalign.recipe import EngineOptions
from tests.constitution.small import SMALL
from tests.support.runs import small_constitution

QUESTIONS = 12
SCRIPTED = ("--engine", "scripted", "--script", "x:y")
JUDGE = "umpire"
PREFIX = responses_prefix(small_constitution())


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """What a finished run leaves, as far as a comparison reads it."""
    run = tmp_path / "demo"
    for name in ("engraved", "final"):
        (run / "models" / name).mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"base_model": "basis"}))
    (run / "constitution.yaml").write_text(SMALL, encoding="utf-8")
    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A TruthfulQA file of our own."""
    targets = {"They do not.": 1, "They do, at night.": 0, "Only the old ones do.": 0}
    rows = [{"question": f"Do chairs number {n} walk?", "mc1_targets": targets} for n in range(QUESTIONS)]
    file = tmp_path / "mc_task.json"
    file.write_text(json.dumps(rows))
    return file


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scripted engines in place of models; the names of those that were opened, in order."""
    names: list[str] = []
    alive: list[str] = []

    def open_engine(options: EngineOptions, model: str) -> ScriptedEngine:
        names.append(Path(model).name)
        if model == JUDGE:
            return ScriptedEngine(answers_of(model), scorer=likes_chairs)
        assert not alive, f"{alive} was still open"
        alive.append(model)
        engine = ScriptedEngine(answers_of(Path(model).name), scorer=scorer_of(Path(model).name))
        engine.close = alive.clear  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr("selfalign.pipeline.engines.open_engine", open_engine)
    return names


def scorer_of(model: str) -> Callable[[str, str], float]:
    """The final model knows that chairs do not walk; the base knows it only under the principles."""

    def score(context: str, continuation: str) -> float:
        knows = model == "final" or context.startswith(PREFIX)
        right = "They do not." in continuation
        return 0.0 if right == knows else -5.0

    return score


def likes_chairs(context: str, continuation: str) -> float:
    """Prefers the answer that speaks of chairs, wherever it stands."""
    chairs, words = context.rfind("Chairs stand"), context.rfind("word word")
    preferred = "equal" if chairs < 0 else "1" if chairs < words else "2"
    return 0.0 if continuation.strip() == preferred else -9.0


def answers_of(model: str) -> Callable[[Request], str]:
    return lambda request: "Chairs stand where somebody put them." if model == "final" else "word " * 999


def compared(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["compare", *map(str, arguments), *SCRIPTED])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_run_is_compared_stage_by_stage_with_the_base_under_the_principles_among_them(
    demo: Path, data: Path, opened: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "c.json"
    output.parent.mkdir()
    tasks = ("--tasks", "truthfulqa-mc1", "--data", data, "--output", output)
    code, out, _ = compared(capsys, "basis", demo, *tasks)
    assert code == 0
    assert opened == ["basis", "engraved", "final"]
    lines = out.splitlines()
    assert lines[:2] == ["base: basis", "base+principles: basis, the rules and exemplars in its context"]
    (row,) = json.loads(output.read_text())["rows"]
    figures = {name: figure["value"] for name, figure in row["subjects"].items()}
    assert figures == {"base": 0.0, "base+principles": 1.0, "engraved": 0.0, "final": 1.0}
    changes = {(change["subject"], change["baseline"]): change for change in row["differences"]}
    assert changes["final", "base"]["difference"] == 1 and not changes["final", "base"]["within_noise"]
    assert changes["final", "base"]["p_value"] == pytest.approx(2 / 2**QUESTIONS, abs=1e-6)
    assert changes["final", "base+principles"]["within_noise"]
    assert any("final" in line and "base+principles" in line and line.endswith("within noise") for line in lines)
    assert any(
        line.startswith("verbosity tax: judged quality not measured; ranking: truthfulqa-mc1 +1.0") for line in lines
    )
    for name in figures:
        kept = (output.parent / "c.items" / name / "truthfulqa-mc1.jsonl").read_text().splitlines()
        assert len(kept) == QUESTIONS and json.loads(kept[0])["candidates"]


def test_the_originals_fault_is_told_below_a_comparison_too(
    demo: Path, data: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ("--tasks", "truthfulqa-mc1", "--data", data, "--scoring", "original-first-half")
    code, out, _ = compared(capsys, demo, *tasks)
    assert code == 0
    told = "truthfulqa-mc1 (base, base+principles, engraved, final): reproduces a fault of the released script"
    assert out.count(told) == 1


def test_measures_of_answers_are_compared_too(
    demo: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = compared(capsys, demo, "--tasks", "form", "--limit", 10, "--json")
    assert code == 0
    rows = {row["measure"]: row for row in json.loads(out)["rows"]}
    stopped = {name: figure["value"] for name, figure in rows["form/stopped"]["subjects"].items()}
    assert stopped == {"base": 0.0, "base+principles": 0.0, "engraved": 0.0, "final": 1.0}
    assert rows["form/words"]["differences"][0]["method"] == "paired bootstrap"


def test_answers_are_judged_in_pairs_against_the_base_by_one_judge_for_all(
    demo: Path, opened: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pairs.json"
    said = ("--tasks", "pairwise", "--judge", JUDGE, "--limit", 10, "--max-tokens", 8, "--output", output)
    code, out, _ = compared(capsys, demo, *said)
    assert code == 0 and opened == [JUDGE, "basis", "engraved", "final"]
    rows = {row["measure"]: row for row in json.loads(output.read_text())["rows"]}
    won = {name: figure["value"] for name, figure in rows["pairwise"]["subjects"].items()}
    assert won == {"base+principles": 0.5, "engraved": 0.5, "final": 1.0}  # the base is what they are held against
    (change,) = [change for change in rows["pairwise"]["differences"] if change["subject"] == "final"]
    assert change["baseline"] == "base+principles" and change["difference"] == 0.5 and not change["within_noise"]
    kept = [
        json.loads(line) for line in (tmp_path / "pairs.items" / "final" / "pairwise.jsonl").read_text().splitlines()
    ]
    assert len(kept) == 10 and {(row["extra"]["judge"], row["extra"]["opponent"]) for row in kept} == {(JUDGE, "base")}
    assert "verbosity tax: judged quality" in out


def test_a_base_whose_context_is_too_short_for_the_principles_does_not_end_the_comparison(
    demo: Path, data: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = len(choice_prompt("truthfulqa_qa").question.split()) + 15
    monkeypatch.setattr(ScriptedEngine, "__init__", partialmethod(ScriptedEngine.__init__, context_length=bare))
    assert len(PREFIX.split()) > 15
    code, out, _ = compared(capsys, demo, "--tasks", "truthfulqa-mc1", "--data", data, "--json")
    assert code == 0
    (row,) = json.loads(out)["rows"]
    figures = row["subjects"]
    assert (figures["base+principles"]["value"], figures["base+principles"]["unjudged"]) == (None, QUESTIONS)
    assert figures["final"]["value"] == 1.0
    assert {change["baseline"] for change in row["differences"]} == {"base"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("basis", "--tasks", "form"), "basis alone has nothing to be held against"),
        (("basis", "other", "--tasks", "lm-eval:arc_easy"), "lm-eval:arc_easy cannot be compared in pairs"),
        (("basis", "other", "--tasks", "tact"), "no task 'tact'"),
        (("basis", "other", "--tasks", "truthfulqa-mc1", "--data", "none.json"), "no file or directory none.json"),
        (("basis", "other", "--tasks", "form", "--judge-url", "http://x"), "--judge-url says where the judge is"),
    ],
)
def test_bad_input_is_told_in_a_line_before_a_model_is_opened(
    arguments: tuple[str, ...], told: str, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = compared(capsys, *arguments)
    assert code == 2 and told in err and "Traceback" not in err
    assert opened == []


def test_without_a_run_the_first_model_is_the_base() -> None:
    names = [(variant.name, variant.model) for variant in variants_of(["basis", "other"], str)]
    assert names == [("base", "basis"), ("base+principles", "basis"), ("other", "other")]


def test_no_model_takes_part_twice_and_two_runs_are_told_apart(demo: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    (second / "models" / "final").mkdir(parents=True)
    for name in ("run.json", "constitution.yaml"):
        (second / name).write_text((demo / name).read_text(encoding="utf-8"), encoding="utf-8")
    names = [variant.name for variant in variants_of([str(demo), "basis", str(second)], str)]
    assert names == ["base", "base+principles", "demo/engraved", "demo/final", "second/final"]


def test_a_run_without_a_model_is_told(demo: Path) -> None:
    for name in ("engraved", "final"):
        (demo / "models" / name).rmdir()
    with pytest.raises(UserError, match="has no model yet"):
        variants_of([str(demo)], str)
