"""Jobs driven together, in chunks, with and without records on disk."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path

from selfalign.engines.base import Completion, Request
from selfalign.engines.scripted import ScriptedEngine
from selfalign.pipeline.drive import Generation, chunks, drive
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.progress import Progress
from selfalign.pipeline.stage import BARRIER, Barrier, Job, Refused, Steps
from selfalign.recipe import AbortOptions
from selfalign.record_store import RecordStore
from selfalign.records import Message, Record, Tokens, Verdict


def job(index: int, steps: int = 1) -> Job:
    """A job that asks `steps` times and returns what it heard."""

    def conversation() -> Steps:
        heard = []
        for step in range(steps):
            completion = yield Request(f"job{index}/{step}", f"{index}.{step}")
            heard.append(completion.text)
        return [said(f"job{index}", " ".join(heard))]

    def refused(refusal: Refused) -> Record:
        return said(f"job{index}", "").judged(refusal.verdict)

    def key(candidate: int) -> str:
        return f"job{index}" if candidate == 0 else f"job{index}-{candidate}"

    return Job(index, key, conversation(), refused)


def said(key: str, text: str) -> Record:
    message: Message = {"role": "user", "content": text}
    return Record(key, "test", (message,), tokens=Tokens(1, 1))


class Stage:
    """Accepts all but what says `no`, and remembers what it was told."""

    name, model, goal = "test", "base", 100

    def __init__(self, jobs: Iterator[Job | Barrier]) -> None:
        self.given = jobs
        self.told: list[str] = []

    def jobs(self) -> Iterator[Job | Barrier]:
        return self.given

    def skip(self, jobs: int) -> bool:
        return False

    def judge(self, candidate: Record) -> Verdict:
        return Verdict.reject("no", "says no") if candidate.user == "no" else Verdict.accept()

    def accept(self, record: Record) -> None:
        self.told.append(record.user)


def generation(stage: Stage, store: RecordStore, state: StageState, answer: str = "yes") -> Generation:
    engine = ScriptedEngine(lambda request: answer)
    return Generation(stage, store, state, lambda: engine, lambda: None, Progress("test", stage.goal), AbortOptions())


# ----------------------------------------------------------------------------------------------------------- driving


def test_jobs_that_wait_go_to_the_engine_together_whatever_the_order_of_answers() -> None:
    asked: list[list[str]] = []

    class Backwards(ScriptedEngine):
        def generate(self, requests: list[Request]) -> Iterator[Completion]:  # type: ignore[override]
            asked.append([request.prompt for request in requests])
            return (self.complete(request) for request in reversed(requests))

    heard: list[Completion] = []
    jobs = [job(0, 2), job(1, 1), job(2, 3), job(3, 0)]
    results = drive(Backwards(lambda request: request.prompt), jobs, heard.append)
    assert asked == [["0.0", "1.0", "2.0"], ["2.1", "0.1"], ["2.2"]]
    assert [rows[0].user for rows in results] == ["0.0 0.1", "1.0", "2.0 2.1 2.2", ""]
    assert len(heard) == 6


def test_chunks_end_at_their_size_and_at_barriers_and_are_pulled_one_by_one() -> None:
    pulled: list[int] = []

    def jobs() -> Iterator[Job | Barrier]:
        yield BARRIER
        for i in count():
            pulled.append(i)
            yield job(i)
            if i % 5 == 4:
                yield BARRIER
                yield BARRIER

    found = chunks(jobs(), 3)
    assert next(found) is BARRIER
    assert pulled == []
    assert shown(next(found)) == [0, 1, 2]
    assert pulled == [0, 1, 2]
    assert [shown(part) for part in islice(found, 5)] == [[3, 4], "barrier", "barrier", [5, 6, 7], [8, 9]]
    assert pulled[-1] == 9
    assert [shown(part) for part in chunks(map(job, range(3)), 3)] == [[0, 1, 2]]


def shown(part: list[Job] | Barrier) -> list[int] | str:
    return "barrier" if isinstance(part, Barrier) else [job.index for job in part]


class Forgetful(ScriptedEngine):
    """Refuses every request whose prompt ends with an odd digit."""

    def complete(self, request: Request) -> Completion:
        if int(request.prompt[-1]) % 2:
            return Completion.refused(request.key, "the prompt has 9 tokens, the context holds 8")
        return super().complete(request)


def test_a_refused_request_becomes_a_record_that_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    store, state = RecordStore(tmp_path / "a.jsonl", tmp_path / "b.jsonl"), StageState()
    run = generation(Stage(iter([job(index, steps=index) for index in (1, 2, 3)])), store, state)  # 2.1 and 3.1
    run.open_engine = lambda: Forgetful(lambda request: "yes")
    run.run(2)
    assert [record.user for record in store.accepted] == ["yes"]
    why = Verdict.reject("engine", "the prompt has 9 tokens, the context holds 8")
    assert [(record.key, record.verdict) for record in store.rejected] == [("job2", why), ("job3", why)]
    assert state.rejected == {"engine": 2}


# ------------------------------------------------------------------------------------------------------------- saving


def test_a_chunk_is_saved_and_replayed_without_the_engine(tmp_path: Path) -> None:
    store, state = RecordStore(tmp_path / "a.jsonl", tmp_path / "b.jsonl"), StageState()
    generation(Stage(map(job, range(5))), store, state).run(2)
    assert (state.parts, state.accepted, state.tokens) == ({"": 5}, 5, Tokens(5, 5))
    stage = Stage(map(job, range(5)))
    again = generation(stage, store, state)
    again.open_engine = lambda: (_ for _ in ()).throw(AssertionError("the engine was opened"))
    again.run(2)
    assert stage.told == ["yes"] * 5
    assert (state.parts, state.tokens) == ({"": 5}, Tokens(5, 5))


class Onward(Stage):
    """Begins where it is told to."""

    def skip(self, jobs: int) -> bool:
        self.given = islice(self.given, jobs, None)
        return True


def test_a_stage_that_never_looks_back_begins_where_it_stopped(tmp_path: Path) -> None:
    store, state = RecordStore(tmp_path / "a.jsonl", tmp_path / "b.jsonl"), StageState()
    generation(Onward(map(job, range(4))), store, state).run(2)
    stage = Onward(map(job, range(7)))
    generation(stage, store, state, "no").run(2)
    assert stage.told == []
    assert [row.key for row in store.accepted] == [f"job{i}" for i in range(4)]
    assert [row.key for row in store.rejected] == [f"job{i}" for i in range(4, 7)]
    assert (state.parts, state.accepted, state.rejected, state.tokens) == ({"": 7}, 4, {"no": 3}, Tokens(7, 7))


def test_what_a_killed_process_wrote_wins_over_what_the_engine_says_now(tmp_path: Path) -> None:
    store, state = RecordStore(tmp_path / "a.jsonl", tmp_path / "b.jsonl"), StageState()
    store.append([said("job0", "before"), said("job1", "no").judged(Verdict.reject("no", "says no"))])
    stage = Stage(map(job, range(3)))
    generation(stage, store, state, "now").run(3)
    assert stage.told == ["before", "now"]
    assert [row.user for row in store.accepted] == ["before", "now"]
    assert [row.user for row in store.rejected] == ["no"]
    assert (state.accepted, state.rejected, state.tokens) == (2, {"no": 1}, Tokens(3, 3))


def test_parts_of_a_stage_are_counted_apart(tmp_path: Path) -> None:
    state = StageState()
    for part in ("base", "final"):
        store = RecordStore(tmp_path / f"{part}.jsonl", tmp_path / "none.jsonl")
        generation(Stage(chain(map(job, range(2)), [BARRIER])), store, state).run(2, part)
    assert state.parts == {"base": 2, "final": 2}
    assert StageState.from_dict(state.to_dict()).parts == state.parts
