"""Judging in a thread of its own: generation goes on meanwhile, and nothing on disk tells that it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import pytest

from selfalign.engines.base import Completion, Request
from selfalign.engines.scripted import ScriptedEngine
from selfalign.errors import EngineFailed, RunFailed, UserError
from selfalign.pipeline import drive
from selfalign.pipeline.instructions import InstructionsStage
from selfalign.pipeline.judging import ROOM, Judging
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.stage import BARRIER
from selfalign.recipe import AbortOptions
from selfalign.record_store import RecordStore
from selfalign.records import Record, Verdict
from tests.pipeline.test_drive import Stage, generation, job
from tests.support.runs import data_files, run, small_recipe, untimed_manifest

LONG = 20.0
"""Seconds until a wait that should have been over is given up."""


class InTurn(Judging[drive.Answered]):
    """Judges each chunk before the next one is generated: what the records are held against."""

    def put(self, chunk: drive.Answered) -> None:
        super().put(chunk)
        self.settle()


class Watched(Stage):
    """Calls `before` with the number of a candidate before it is judged."""

    def __init__(self, numbers: Iterable[int], before: Callable[[int], None]) -> None:
        super().__init__(map(job, numbers))
        self.before = before

    def judge(self, candidate: Record) -> Verdict:
        self.before(int(candidate.key.removeprefix("job")))
        return super().judge(candidate)


class Telling(ScriptedEngine):
    """Calls `before` with the number of a job before it answers it."""

    def __init__(self, before: Callable[[int], None]) -> None:
        super().__init__(lambda request: "yes")
        self.before = before

    def complete(self, request: Request) -> Completion:
        self.before(int(request.prompt.split(".")[0]))
        return super().complete(request)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "accepted.jsonl", tmp_path / "rejected.jsonl")


def judging_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("judging")]


# ------------------------------------------------------------------------------------------------------------ overlap


def test_a_chunk_is_generated_while_the_one_before_it_is_judged(store: RecordStore) -> None:
    judged, asked = threading.Event(), threading.Event()

    def judge(number: int) -> None:
        judged.set()
        assert asked.wait(LONG), "the engine waited for the judge"

    def answer(number: int) -> None:
        if number == 1:
            assert judged.wait(LONG)
            asked.set()

    state = StageState()
    work = generation(Watched(range(3), judge), store, state)
    work.open_engine = lambda: Telling(answer)
    work.run(1)
    assert [record.key for record in store.accepted] == ["job0", "job1", "job2"]
    assert (state.accepted, state.parts) == (3, {"": 3})
    assert not judging_threads()


def test_behind_a_barrier_nothing_is_generated_before_all_is_judged(store: RecordStore) -> None:
    events: list[tuple[str, int]] = []
    stage = Watched([], lambda number: events.append(("judged", number)))
    stage.given = chain(map(job, range(4)), [BARRIER], map(job, range(4, 6)))
    work = generation(stage, store, StageState())
    work.open_engine = lambda: Telling(lambda number: events.append(("answered", number)))
    work.run(2)
    assert {("judged", number) for number in range(4)} <= set(events[: events.index(("answered", 4))])


def test_no_more_than_a_few_chunks_wait_to_be_judged(store: RecordStore) -> None:
    beyond = threading.Event()
    answered: list[int] = []

    def answer(number: int) -> None:
        answered.append(number)
        if number == ROOM + 1:
            beyond.set()

    def judge(number: int) -> None:
        if number == 0:
            assert not beyond.wait(0.2), "generation does not wait"  # ROOM wait, and one is in the hand

    work = generation(Watched(range(ROOM + 4), judge), store, StageState())
    work.open_engine = lambda: Telling(answer)
    work.run(1)
    assert answered == list(range(ROOM + 4))


def test_the_records_are_byte_for_byte_those_of_a_run_that_does_all_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path, chunk_size=3, instructions={"topic_guided": 12, "self_instruct": 12})
    judge = InstructionsStage.judge

    def slow(stage: InstructionsStage, candidate: Record) -> Verdict:
        time.sleep(0.003)
        return judge(stage, candidate)

    with monkeypatch.context() as patch:
        patch.setattr(drive, "Judging", InTurn)
        run(recipe, tmp_path / "in turn", until="elaborations")
    monkeypatch.setattr(InstructionsStage, "judge", slow)
    run(recipe, tmp_path / "overlapped", until="elaborations")
    assert data_files(tmp_path / "overlapped") == data_files(tmp_path / "in turn")
    assert untimed_manifest(tmp_path / "overlapped") == untimed_manifest(tmp_path / "in turn")


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", [UserError("the disk is full"), KeyError("a fault of ours")])
def test_a_fault_in_judging_ends_the_run_with_all_chunks_before_it_saved(store: RecordStore, fault: Exception) -> None:
    def judge(number: int) -> None:
        if number == 5:
            raise fault

    state = StageState()
    work = generation(Watched(range(99), judge), store, state)
    with pytest.raises(type(fault)) as caught:
        work.run(2)
    assert caught.value is fault
    assert [record.key for record in store.accepted] == [f"job{number}" for number in range(4)]
    assert (state.parts, state.accepted, state.tokens.completion) == ({"": 4}, 4, 4)
    assert not judging_threads()


def test_a_fault_in_judging_is_heard_of_within_the_next_chunk(store: RecordStore) -> None:
    raised = threading.Event()
    heard: list[int] = []

    def judge(number: int) -> None:
        raised.set()
        raise UserError("the disk is full")

    def answer(number: int) -> None:
        heard.append(number)
        if number >= 100:
            assert raised.wait(LONG)
            time.sleep(0.002)

    work = generation(Watched(range(500), judge), store, StageState())
    work.open_engine = lambda: Telling(answer)
    with pytest.raises(UserError, match="the disk is full"):
        work.run(100)
    assert max(heard) < 199


@pytest.mark.parametrize("fault", [EngineFailed("layer 3 gave NaN"), KeyboardInterrupt()])
def test_what_was_generated_is_judged_and_saved_when_the_engine_fails_or_the_user_stops(
    store: RecordStore, fault: BaseException
) -> None:
    failed = threading.Event()

    def judge(number: int) -> None:
        assert failed.wait(LONG)

    def answer(number: int) -> None:
        if number == 2:
            failed.set()
            raise fault

    state = StageState()
    work = generation(Watched(range(9), judge), store, state)
    work.open_engine = lambda: Telling(answer)
    with pytest.raises(type(fault)) as caught:
        work.run(1)
    assert caught.value is fault
    assert [record.key for record in store.accepted] == ["job0", "job1"]
    assert state.parts == {"": 2}
    assert not judging_threads()


def test_a_hopeless_yield_leaves_what_it_leaves_in_turn_and_does_not_creep_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {}
    for name, judging in (("in turn", InTurn), ("overlapped", Judging)):
        monkeypatch.setattr(drive, "Judging", judging)
        found = RecordStore(tmp_path / name / "accepted.jsonl", tmp_path / name / "rejected.jsonl")
        state = StageState()
        for asked in (True, False):
            work = generation(Stage(map(job, range(999))), found, state, "no")
            work.abort = AbortOptions(after=10)
            if not asked:
                work.open_engine = lambda: (_ for _ in ()).throw(AssertionError("the engine was opened"))
            with pytest.raises(RunFailed, match="only 0 of 12 candidates accepted"):
                work.run(4)
        left[name] = ([record.key for record in found.rejected], state.parts, state.rejected, state.tokens)
    assert left["in turn"] == left["overlapped"]


# ------------------------------------------------------------------------------------------------------------ judging


def test_nothing_is_judged_after_a_fault_and_the_fault_comes_out_once() -> None:
    judged: list[int] = []
    go_on = threading.Event()

    def judge(number: int) -> None:
        assert go_on.wait(LONG)
        judged.append(number)
        if number == 1:
            raise ValueError("chunk 1")

    with pytest.raises(ValueError, match="chunk 1"), Judging(judge, room=9) as judging:
        for number in range(4):
            judging.put(number)
        go_on.set()
    assert judged == [0, 1]
    assert not judging_threads()


def test_a_second_interrupt_leaves_out_what_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def judge(number: int) -> None:
        begun.set()
        assert go_on.wait(LONG)
        judged.append(number)

    def interrupted(_: Judging[int]) -> None:
        threading.Timer(0.2, go_on.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(Judging, "settle", interrupted)
    with pytest.raises(KeyboardInterrupt), Judging(judge, room=9) as judging:
        for number in range(3):
            judging.put(number)
        assert begun.wait(LONG)
        raise KeyboardInterrupt
    assert judged == [0]
    assert not judging_threads()
