"""`keep_thoughts: true`: the thought is learnt with the response, and stands apart again wherever an answer is read."""

from __future__ import annotations

from typing import Any

import pytest

from selfalign.constitution.kept_thought import split_thought, with_thought
from selfalign.engines.base import Completion, Request
from selfalign.evaluation.subject import Answer, answer_of
from selfalign.pipeline.datasets import clone_rows, engrave_rows, later_round
from selfalign.pipeline.elaborations import ElaborationsStage
from selfalign.pipeline.held_out import HeldOutStage
from selfalign.recipe import ElaborationsOptions, EvaluateOptions
from selfalign.records import Message, Record, Tokens
from tests.support.runs import context, small_constitution

THOUGHT = "Sides are heard, so 2 (balanced & fair) applies."
REPLY = "Tea has friends in the north, and coffee has friends in the south of the country."
WRITTEN = f"<think>\n{THOUGHT}\n</think>\n\n{REPLY}"


def record(number: int, thought: str = THOUGHT) -> Record:
    user: Message = {"role": "user", "content": f"Tea or coffee, number {number}?"}
    answer: Message = {"role": "assistant", "content": REPLY}
    return Record(f"{number:020x}", "responses", (user, answer), thought, parents=(f"instruction {number}",))


def test_a_thought_comes_first_in_its_tags_and_apart_again() -> None:
    assert with_thought(f" {THOUGHT}\n", REPLY) == WRITTEN
    assert split_thought(f"\n{WRITTEN}") == (THOUGHT, REPLY)
    assert with_thought("", REPLY) == REPLY
    assert split_thought(REPLY) == ("", REPLY)
    assert split_thought(f"<think>\n{THOUGHT}") == (THOUGHT, "")


def test_it_is_learnt_where_it_is_kept_and_pruned_where_not() -> None:
    (kept,), (pruned,) = (engrave_rows([record(1)], keep) for keep in (True, False))
    assert [message["content"] for message in kept.messages] == [record(1).user, WRITTEN]
    assert pruned.messages == record(1).messages
    (clone,) = clone_rows([record(1)], small_constitution(), True)
    assert [message["role"] for message in clone.messages] == ["system", "user", "assistant"]
    assert clone.messages[-1]["content"] == WRITTEN
    assert engrave_rows([record(1, thought="")], True) == engrave_rows([record(1, thought="")])


def test_a_further_round_learns_and_is_measured_likewise() -> None:
    rows = later_round([record(n) for n in range(20)], [record(n) for n in range(20)], 2, True)
    assert {row.messages[-1]["content"] for row in (*rows.train, *rows.validation)} == {WRITTEN}


def first_record(steps: Any) -> Record:
    """Of a job whose model thinks in the open."""
    request: Request = next(steps)
    with pytest.raises(StopIteration) as returned:
        steps.send(Completion(request.key, WRITTEN, "eos", Tokens(1, 2)))
    found: Record = returned.value.value[0]
    return found


def test_elaborations_and_held_out_answers_have_it_beside_the_text() -> None:
    instruction = record(1)
    elaborate, evaluate = ElaborationsOptions(), EvaluateOptions()
    stages = (
        ElaborationsStage(context("elaborations", elaborate), elaborate, [instruction]),
        HeldOutStage(context("evaluate/final", evaluate), "final", [instruction]),
    )
    for stage in stages:
        found = first_record(next(iter(stage.jobs())).steps)  # type: ignore[union-attr]
        assert (found.thought, found.principles, found.assistant) == (THOUGHT, (2,), REPLY)
        assert found.verdict.accepted


def test_an_evaluation_reads_the_answer_without_it() -> None:
    completion = Completion("key", WRITTEN, "eos", Tokens())
    assert answer_of(completion) == Answer(REPLY, "eos", "", THOUGHT)
