"""The gate in a run: a tiny model is really trained and asked; only what the base model writes is scripted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign.cli.main import main
from selfalign.constitution.chat_format import ChatFormat
from selfalign.constitution.loading import load_constitution
from selfalign.engines.base import Completion, Engine
from selfalign.engines.scripted import ScriptedEngine
from selfalign.errors import RunFailed, UserError
from selfalign.filters.leaks_constitution import leak_finder
from selfalign.pipeline import engines, gate, runner, training
from selfalign.pipeline.datasets import TrainingRow
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.recipe import EngineOptions, GateOptions, Recipe
from selfalign.records import Tokens
from tests.support import scripts
from tests.support.runs import context, run, small_constitution, small_recipe
from tests.support.tiny import tiny_model_dir

LENIENT = {
    "rows": 2,
    "max_tokens": 16,
    "temperature": 0.0,
    "min_stop_rate": 0.0,
    "max_loss_ratio": 9.0,
    "max_leak_rate": 1.0,
}
STRICT = LENIENT | {"min_stop_rate": 1.0}
"""What a model that never ends a text by itself cannot pass."""


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    """Some twenty short responses for a tiny model."""
    data: dict[str, Any] = {
        "base_model": str(folder / "tiny"),
        "engine": {"kind": "embedded", "dtype": "float32"},
        "instructions": {"topic_guided": 16, "self_instruct": 10, "max_tokens": 64},
        "engrave": {"validation_rows": 4, "identity_copies": 0, "max_length": 1200, "warmup_steps": 0},
        "gate": STRICT,
    }
    for name, value in changes.items():
        data[name] = data.get(name, {}) | value if isinstance(value, dict) else value
    return small_recipe(folder, **data)


def opened(options: EngineOptions, model: str) -> Engine:
    """The base model's texts are scripted; a trained model is the real one."""
    return engines.open_engine(options, model) if "models" in model else ScriptedEngine(scripts.answer)


@pytest.fixture(scope="module", autouse=True)
def scripted_base() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "open_engine", opened)
        scripts.without_faults(patch)  # of 24 responses 2 are held out; of fewer than 20, as some paths gave, 1
        yield


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose engraved model failed its gate."""
    folder = tmp_path_factory.mktemp("gate")
    tiny_model_dir(folder / "tiny", ends=False)
    with pytest.raises(RunFailed, match=r"engrave: the model failed its gate: ended 0 of 2 answers itself \(0%\)"):
        run(recipe_of(folder), folder / "run", "engrave")
    return folder / "run"


@pytest.fixture
def path(failed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(failed, tmp_path / "run")
    return tmp_path / "run"


def stage(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))["stages"]["engrave"]
    return found


def never(*_: object, **__: object) -> None:
    raise AssertionError("this was done already")


def test_a_model_that_fails_is_kept_and_marked_and_the_run_says_what_to_do(failed: Path) -> None:
    found, model = stage(failed), failed / "models" / "engraved"
    assert found["state"] == "failed"
    assert (model / "adapter_model.safetensors").is_file()
    assert json.loads((model / "gate.json").read_text(encoding="utf-8")) == found["gate"]
    assert "**FAILED: do not use this model as it is**, on 2 held-out rows" in (model / "README.md").read_text()
    assert {check["name"]: check["passed"] for check in found["gate"]["checks"]} == {
        "stop_rate": False,
        "leak_rate": True,
        "loss_ratio": True,
    }
    assert "gate of engraved: FAILED: ended 0 of 2" in (failed / "logs" / "run.log").read_text(encoding="utf-8")


def test_its_samples_are_held_out_instructions_with_the_answers_of_the_tuned_model(failed: Path) -> None:
    lines = (failed / "datasets" / "engrave" / "validation.jsonl").read_text(encoding="utf-8").split("\n")[:2]
    rows = [json.loads(line)["messages"] for line in lines]
    samples = stage(failed)["gate"]["samples"]
    assert [sample["instruction"] for sample in samples] == [row[0]["content"] for row in rows]
    assert [sample["held_out"] for sample in samples] == [row[1]["content"] for row in rows]
    assert [sample["finish_reason"] for sample in samples] == ["length", "length"]
    figures = stage(failed)["training"]
    assert stage(failed)["gate"]["loss_before"] == figures["validation_loss_before"]
    assert stage(failed)["gate"]["loss_after"] == figures["validation_loss"]


def test_the_same_command_fails_again_and_neither_trains_nor_asks(
    path: Path, failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "train", never)
    monkeypatch.setattr(gate, "ask", never)
    with pytest.raises(RunFailed, match="failed its gate") as caught:
        run(recipe_of(failed.parent), path, "engrave")
    assert "--keep-going" in caught.value.hint and caught.value.exit_code == 1


def test_a_threshold_may_change_and_judges_the_same_answers(
    path: Path, failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "train", never)
    monkeypatch.setattr(gate, "ask", never)
    run(recipe_of(failed.parent, gate=LENIENT), path, "engrave")
    assert (stage(path)["state"], stage(path)["gate"]["passed"]) == ("done", True)
    assert "FAILED" not in (path / "models" / "engraved" / "README.md").read_text(encoding="utf-8")


def test_told_to_keep_going_the_run_goes_on_with_a_marked_model(
    path: Path, failed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(recipe_of(failed.parent, gate={"on_failure": "continue"}), path, "engrave")
    assert (stage(path)["state"], stage(path)["gate"]["passed"]) == ("done", False)
    assert "failure" not in stage(path)
    capsys.readouterr()
    assert main(["status", str(path)]) == 0
    assert "gate of engrave FAILED: ended 0 of 2 answers itself" in capsys.readouterr().out


def test_a_model_that_failed_may_be_trained_otherwise(path: Path, failed: Path) -> None:
    before = (path / "models" / "engraved" / "adapter_model.safetensors").read_bytes()
    changed = recipe_of(failed.parent, gate=LENIENT, engrave={"learning_rate": 0.02})
    run(changed, path, "engrave")
    assert (path / "models" / "engraved" / "adapter_model.safetensors").read_bytes() != before
    assert stage(path)["state"] == "done"
    with pytest.raises(UserError, match=r"engrave\.learning_rate was 0\.02, now 0\.01; engrave has data"):
        run(recipe_of(failed.parent, gate=LENIENT, engrave={"learning_rate": 0.01}), path)


def test_a_run_killed_in_the_gate_asks_again_and_does_not_train_again(
    path: Path, failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    whole = stage(path)["gate"]
    found = RunDirectory(path)
    found.stages["engrave"].state, found.stages["engrave"].gate = "running", None  # as the training leaves it
    found.save()
    monkeypatch.setattr(training, "train", never)
    for place in ("ask", "mark"):
        with monkeypatch.context() as patch:
            patch.setattr(gate, place, killed)
            with pytest.raises(Killed):
                run(recipe_of(failed.parent), path, "engrave")
        assert "gate" not in stage(path)
    with pytest.raises(RunFailed, match="failed its gate"):
        run(recipe_of(failed.parent), path, "engrave")
    assert stage(path)["gate"] == whole


@pytest.mark.parametrize(
    ("rows", "options", "why"),
    [(slice(0), {}, "there are no validation rows"), (slice(3), {"rows": 0}, "gate.rows is 0")],
)
def test_a_gate_that_cannot_be_asked_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: slice, options: dict[str, Any], why: str
) -> None:
    given: Any = never
    outcome = gate.pass_gate(StageState(), given, given, ROWS[rows], GateOptions(**options), tmp_path / "engraved")
    assert outcome is None
    assert f"gate of engraved: left out, {why}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------- the asking


ROWS = [
    TrainingRow("a", ({"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Ada."})),
    TrainingRow("b", ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."})),
    TrainingRow(
        "c",
        (
            {"role": "system", "content": "Speak as short as ever you can to this one person here."},
            {"role": "user", "content": "How?"},
            {"role": "assistant", "content": "Thus."},
        ),
    ),
]


class Fixed:
    """An engine that gives each prompt its completion."""

    def __init__(self, texts: dict[str, Completion]) -> None:
        self.texts = texts
        self.prompts: list[str] = []

    def generate(self, requests: Any) -> Iterator[Completion]:
        for request in list(requests)[::-1]:
            self.prompts.append(request.prompt)
            found = next(completion for word, completion in self.texts.items() if word in request.prompt)
            yield Completion(request.key, found.text, found.finish_reason, Tokens(), found.refusal)


def asked(**texts: Completion) -> list[gate.Answer]:
    constitution = small_constitution()
    ground = context("gate/clone", GateOptions(), constitution)
    engine: Any = Fixed(texts)
    return gate.ask(engine, ground, ROWS, leak_finder(constitution), lambda _: None)


def said(text: str, reason: Any = "eos") -> Completion:
    return Completion("", text, reason, Tokens())


def test_answers_come_in_the_order_of_their_rows_and_are_counted() -> None:
    answers = asked(Who=said("Ada it is."), Why=said("On and on", "length"), How=said("Thus and so."))
    assert [answer.row.key for answer in answers] == ["a", "b", "c"]
    figures = gate.figures(answers, 2.0, 1.0)
    assert (figures.rows, figures.stopped, figures.leaks, figures.loss_before, figures.loss_after) == (
        3,
        2,
        0,
        2.0,
        1.0,
    )
    assert figures.mean_words == 3.0


def test_an_empty_answer_is_none_that_the_model_ended() -> None:
    figures = gate.figures(asked(Who=said(""), Why=said(" \n"), How=said("Thus and so.")), None, None)
    assert (figures.rows, figures.stopped, figures.empty) == (3, 1, 2)


def test_a_principle_an_exemplar_and_the_style_are_leaks() -> None:
    answers = asked(
        Who=said("I answer under 2 (balanced & fair)."),
        Why=said("A talk with Ada, calm, as the Mill wishes."),
        How=said("Speak as short as ever you can to this one person here."),
    )
    assert [bool(answer.leak) for answer in answers] == [True, True, True]
    assert gate.figures(answers, None, None).leaks == 3


def test_who_the_assistant_is_may_be_said_in_the_words_of_the_style() -> None:
    style = load_constitution("dromedary").style("standard")
    constitution = load_constitution("dromedary")
    ground = context("gate/engrave", GateOptions(), constitution)
    assert all(
        gate.find_leak(ROWS[0], answer, ground, lambda *_: "") == "" for _, answer in constitution.identity_pairs
    )
    assert gate.find_leak(ROWS[0], "I'm an AI assistant made by the selfalign project.", ground, lambda *_: "") == ""
    assert "words of the style" in gate.find_leak(ROWS[0], style, ground, lambda *_: "")


def test_a_row_that_the_engine_refuses_is_left_out() -> None:
    answers = asked(Who=said("Ada."), Why=Completion.refused("", "too long"), How=said("Thus."))
    assert [answer.row.key for answer in answers] == ["a", "c"]


def test_the_prompt_is_the_row_without_its_answer() -> None:
    constitution = small_constitution()
    ground = context("gate/clone", GateOptions(), constitution)
    engine: Any = Fixed({"": said("x")})
    gate.ask(engine, ground, ROWS, lambda *_: "", lambda _: None)
    chat_format: ChatFormat = ground.chat_format
    expected = [chat_format.render(list(row.messages[:-1]), add_generation_prompt=True) for row in ROWS]
    assert sorted(engine.prompts) == sorted(expected)
