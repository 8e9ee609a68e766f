"""`selfalign ablate`: the responses of a run beside those without one part of its constitution."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign.cli.ablate import check_type
from selfalign.cli.main import main
from selfalign.constitution.schema import Constitution
from selfalign.engines.base import Engine, Request
from selfalign.engines.scripted import ScriptedEngine
from selfalign.errors import UserError
from selfalign.evaluation.ablation import WHOLE, Side, compared
from selfalign.pipeline import ablation, runner
from selfalign.pipeline.ablation_loss import rows_without, whole_rows
from selfalign.pipeline.decontaminate import Sieve
from selfalign.pipeline.drive import Generation
from selfalign.pipeline.manifest import StageName
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.training import stage_dataset
from selfalign.recipe import EngineOptions, Recipe
from selfalign.records import Record, read_records
from tests.constitution.small import changes
from tests.support import scripts
from tests.support.runs import files, small_constitution, small_recipe
from tests.support.tiny import tiny_model_dir

TEXT = changes(
    (
        "A matter of taste, so 2 (balanced & fair) applies,\n          and 1 (ethical) always does.",
        "1 (ethical) and 2 (balanced & fair) apply.",
    )
)
SIZE = "8"
Seen: list[Request] = []


def watched(request: Request) -> str:
    """The usual script; what it was asked is kept."""
    Seen.append(request)
    return scripts.answer(request)


def recipe_file(folder: Path, **changed: Any) -> Path:
    recipe = small_recipe(folder, TEXT, engine={"script": f"{__name__}:watched"}, **changed)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recipe and its run up to the responses."""
    folder = tmp_path_factory.mktemp("ablation")
    assert main(["run", str(recipe_file(folder)), "--out", str(folder / "run"), "--until", "responses"]) == 0
    yield folder


def ablate(folder: Path, *arguments: str) -> int:
    Seen.clear()
    return main(["ablate", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--sample", SIZE, *arguments])


def comparison(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "ablations" / name / "comparison.json").read_text("utf-8"))
    return found


def rows(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["measure"]: row for row in summary["rows"]}


def test_only_the_sample_is_answered_anew_and_without_the_principle(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(folder / "run")
    assert ablate(folder, "--drop-principle", "2") == 0
    shown = capsys.readouterr().out
    summary = comparison(folder, "principle-2")
    assert all("balanced & fair" not in request.prefix for request in Seen)
    assert all("1 (ethical)" in request.prefix for request in Seen)
    after = files(folder / "run")
    assert {name for name in after if before.get(name) != after[name]} - {
        "run.json",
        "progress.json",
        "logs/run.log",
    } == {name for name in after if name.startswith("ablations/principle-2/")}
    stored = list(read_records(folder / "run/ablations/principle-2/responses.jsonl"))
    assert {record.parents[0] for record in stored} <= set(summary["sample"])
    assert len(summary["sample"]) == int(SIZE)
    assert summary["responses"]["without 2 (balanced & fair)"] == len(stored)
    assert "cites 1 (ethical)" in shown
    assert "without 2 (balanced & fair)" in shown


def test_the_use_of_the_principle_itself_is_no_difference(folder: Path) -> None:
    ablate(folder, "--drop-principle", "2")
    found = rows(comparison(folder, "principle-2"))
    assert list(found["cites 2 (balanced & fair)"]["subjects"]) == [WHOLE]
    assert found["cites 2 (balanced & fair)"]["differences"] == []
    (difference,) = found["answered"]["differences"]
    assert (difference["baseline"], difference["n"]) == (WHOLE, int(SIZE))


def test_a_second_time_nothing_is_asked_again(folder: Path) -> None:
    ablate(folder, "--drop-principle", "2")
    first = comparison(folder, "principle-2")
    assert ablate(folder, "--drop-principle", "balanced & fair") == 0
    assert Seen == []
    assert comparison(folder, "principle-2") == first


def test_without_thoughts_the_model_answers_at_once(folder: Path) -> None:
    assert ablate(folder, "--drop-thoughts") == 0
    assert Seen
    assert all("### Internal thought" not in request.prefix + request.prompt for request in Seen)
    found = rows(comparison(folder, "thoughts"))
    assert list(found["principles a thought"]["subjects"]) == [WHOLE]
    assert {record.thought for record in read_records(folder / "run/ablations/thoughts/responses.jsonl")} == {""}


def test_another_sample_would_be_mixed_with_the_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablate(folder, "--drop-principle", "2")
    assert ablate(folder, "--drop-principle", "2", "--sample", "3") == 2
    assert "on another sample\n  next: put them back, or make it anew: rm -r " in capsys.readouterr().err


def test_a_hopeless_ablation_names_the_file_of_what_was_rejected(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("ablations")))
    monkeypatch.setattr(scripts, "answer", scripts.nonsense)
    assert ablate(copy, "--drop-thoughts", "--set", "abort.after=1") == 1
    rejected = copy / "run/ablations/thoughts/rejected/responses.jsonl"
    assert f"next: look at them: {rejected}" in capsys.readouterr().err
    assert rejected.is_file()


def test_what_a_killed_ablation_wrote_is_of_its_own_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Generation, "_count", killed)  # its first records are written, and not counted
        with pytest.raises(Killed):
            ablate(folder, "--drop-principle", "1")
    assert list(read_records(folder / "run/ablations/principle-1/responses.jsonl"))
    assert ablate(folder, "--drop-principle", "1", "--sample", "3") == 2
    assert ablate(folder, "--drop-principle", "1") == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--drop-principle", "7"], "no principle '7'"),
        (["--drop-exemplar", "coffee"], "no exemplar 'coffee'"),
        (["--drop-exemplar", "tea"], "tea is the only exemplar"),
        (["--drop-type", "sums"], "a type changes no response"),
        (["--drop-thoughts", "--sample", "0"], "--sample is 0"),
    ],
)
def test_what_cannot_be_left_out_is_told_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert ablate(folder, *arguments) == 2
    assert Seen == []
    assert reason in capsys.readouterr().err


def response(instruction: str, text: str, principles: tuple[int, ...] = ()) -> Record:
    messages = ({"role": "user", "content": instruction}, {"role": "assistant", "content": text})
    return Record(
        key=f"{instruction} {text}", stage="responses", messages=messages, thought="A thought." * bool(principles),  # type: ignore[arg-type]
        principles=principles, parents=(instruction,),
    )  # fmt: skip


def test_differences_are_over_the_instructions_that_both_sides_answered() -> None:
    names = {1: "ethical", 2: "fair"}
    whole = {key: response(key, "Yes it is so.", (1, 2)) for key in "abcd"}
    other = {key: response(key, "I'm sorry, but I can't help with that.", (1,)) for key in "cde"}
    sides = {WHOLE: Side(whole, names), "less": Side(other, {1: "ethical"})}
    losses = {WHOLE: {"x": 1.0, "y": 2.0}, "less": {"x": 1.5, "y": 2.5}}
    found = {row.measure: row for row in compared("abcdef", sides, losses)}
    assert {name: figure.value for name, figure in found["answered"].figures.items()} == {WHOLE: 4 / 6, "less": 0.5}
    (words,) = found["words"].differences
    assert (words.paired.difference, words.paired.n) == (4.0, 2)
    assert found["refused"].differences[0].paired.difference == 1.0
    assert found["principles a thought"].differences[0].paired.difference == -1.0
    assert "less" not in found["cites 2 (fair)"].figures
    assert found["held-out loss"].differences[0].paired.difference == pytest.approx(0.5)


def test_both_sides_are_measured_on_rows_that_neither_learns() -> None:
    constitution: Constitution = small_constitution(TEXT)
    recipe = Recipe.model_validate({"engrave": {"validation_rows": 2}})
    whole = [response(f"question {i}", "yes", (1,)) for i in range(20)]
    without = [response(f"question {i}", "no", (1,)) for i in range(3, 20)]
    first = whole_rows(recipe, constitution, whole)
    second = rows_without(recipe, constitution, whole, without)
    assert first.validation == second.validation
    held = {row.messages[0]["content"] for row in first.validation}
    assert len(held) == 2
    assert held.isdisjoint(row.messages[0]["content"] for row in (*first.train, *second.train))


def test_a_run_learns_thought_and_response_where_the_recipe_says_so(folder: Path) -> None:
    run, constitution = RunDirectory(folder / "run"), small_constitution(TEXT)
    engrave = StageName("engrave", 1)
    for keeps in (True, False):
        recipe = Recipe.model_validate({"engrave": {"keep_thoughts": keeps, "identity_copies": 0}})
        train, validation = stage_dataset(run, recipe, constitution, engrave, Sieve())
        thinking = [row.messages[-1]["content"].startswith("<think>\n") for row in (*train, *validation)]
        assert thinking == [keeps] * len(run.accepted("responses"))


@pytest.mark.parametrize(
    ("whole", "without", "which"), [(9, 9, "none of the 9"), (9, 0, "all of the 9"), (0, 0, "none of the 0")]
)
def test_a_type_of_which_the_sample_has_nothing_or_nothing_else_is_not_compared(
    whole: int, without: int, which: str
) -> None:
    with pytest.raises(UserError, match=f"without type law: {which} responses of the sample are of that type"):
        check_type("without type law", whole, without)
    check_type("without type law", 9, 8)


def opened(options: EngineOptions, model: str) -> Engine:
    """The base model's texts are scripted; what is trained is really trained."""
    return ScriptedEngine(watched)


@pytest.fixture
def trainable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe on a tiny model, whose base is scripted and makes no faults.

    The model is named from within the folder: a path of this session would be in every record's key, and so decide by
    chance which responses there are, of which types.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "open_engine", opened)
    monkeypatch.setattr(ablation, "open_engine", opened)
    scripts.without_faults(monkeypatch)
    tiny_model_dir(tmp_path / "tiny")
    data = small_recipe(tmp_path, TEXT).model_dump(mode="json")
    data |= {"base_model": "tiny", "engine": {"kind": "embedded", "dtype": "float32"}}
    data["instructions"] |= {"topic_guided": 16, "self_instruct": 10}
    data["engrave"] |= {"validation_rows": 4, "identity_copies": 0, "max_length": 640, "warmup_steps": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_type_is_left_out_of_the_training_and_the_losses_are_compared(
    trainable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (["--drop-type", "sums"], ["--drop-principle", "2"]):
        assert ablate(trainable, *part, "--sample", "99") == 0
    shown = capsys.readouterr().out
    assert "held-out loss" in shown
    of_type, of_principle = comparison(trainable, "type-sums"), comparison(trainable, "principle-2")
    assert [row["measure"] for row in of_type["rows"]] == ["held-out loss"]
    whole = list(read_records(trainable / "run" / "responses.jsonl"))
    dropped = {record.key for record in whole if record.type == "sums"}
    assert 0 < len(dropped) < len(whole)
    assert of_type["responses"] == {WHOLE: len(whole), "without type sums": len(whole) - len(dropped)}
    train = (trainable / "run/ablations/type-sums/datasets/engrave/train.jsonl").read_text(encoding="utf-8")
    learnt = {json.loads(line)["key"] for line in train.splitlines()}
    assert learnt < {record.key for record in whole} - dropped
    loss = {name: rows(found)["held-out loss"]["subjects"][WHOLE] for name, found in
            {"type": of_type, "principle": of_principle}.items()}  # fmt: skip
    assert loss["type"] == loss["principle"]  # the whole side is trained once
    assert 1 < loss["type"]["value"] < 9
