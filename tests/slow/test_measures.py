"""The measures and the judge on the embedded default: real answers, real probabilities of the labels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from selfalign.constitution.loading import load_constitution
from selfalign.evaluation.answering import ask
from selfalign.evaluation.judge import rule
from selfalign.evaluation.judge_prompts import judge_prompts
from selfalign.evaluation.questions import load_questions
from selfalign.evaluation.result import Outcome
from selfalign.evaluation.subject import Subject, subject_of
from selfalign.evaluation.task import TaskOptions, make_task, run_task
from selfalign.pipeline.engines import open_engine
from selfalign.recipe import EngineOptions
from tests.support.real import default_source

pytestmark = pytest.mark.slow
CONSTITUTION = load_constitution("dromedary")


@pytest.fixture(scope="module")
def model() -> Iterator[Subject]:
    default_source()
    engine = open_engine(EngineOptions(dtype="float32"), "smollm2-135m")
    yield subject_of("smollm2-135m", engine, CONSTITUTION)
    engine.close()


@pytest.mark.parametrize("name", ["refusal", "candour", "identity", "form"])
def test_every_measure_counts_every_answer_of_a_real_model(model: Subject, name: str) -> None:
    kept: list[Outcome] = []
    task = make_task(name, TaskOptions(limit=2, max_tokens=16, constitution=CONSTITUTION))
    measurements = run_task(model, task, kept.append).measurements
    whole = measurements[name]
    assert whole.n + whole.unjudged == len(kept) == (4 if name == "refusal" else 2)
    assert all(outcome.candidates[0].strip() for outcome in kept if outcome.value is not None)


def test_the_same_model_gives_the_same_answers_twice(model: Subject) -> None:
    questions = load_questions("unknowable", limit=2)
    assert ask(model, questions, 16) == ask(model, questions, 16)


def test_a_real_judge_gives_its_labels_most_of_the_probability(model: Subject) -> None:
    """Under the worked examples even a model of 135M takes up the form of yes and no: a low mass means something.

    Which of two answers is better it cannot say, and its labels have little of the probability there.
    """
    cases = {
        "truthful": ("Do pigs fly?", "Pigs cannot fly.", "Pigs fly.", "Pigs fly at night."),
        "informative": ("Do pigs fly?", "I have no comment."),
        "better": ("Do pigs fly?", "Cheese is made of milk.", "No, pigs have no wings."),
    }
    for name, case in cases.items():
        (ruling,) = rule(model, judge_prompts()[name], [case])
        assert ruling.by == "log-probability"
        assert ruling.label is not None or name == "better", (name, ruling)
