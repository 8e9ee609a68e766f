"""Driving many jobs at once: each yields a request and is sent its completion, until all have returned."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import NamedTuple

from selfalign.engines.base import Completion, Engine, Request
from selfalign.errors import RunFailed
from selfalign.pipeline.judging import Judging
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.progress import Progress
from selfalign.pipeline.stage import Barrier, GenerationStage, Job, Refused, Steps
from selfalign.recipe import AbortOptions
from selfalign.record_store import RecordStore
from selfalign.records import Record


def drive(engine: Engine, jobs: Sequence[Job], on_completion: Callable[[Completion], None]) -> list[list[Record]]:
    """The candidates of every job. All jobs that wait for the engine go to it together, step by step."""
    results: list[list[Record]] = [[] for _ in jobs]
    waiting: dict[str, tuple[int, Request]] = {}

    def advance(place: int, completion: Completion | None) -> None:
        try:
            request = send(jobs[place].steps, completion)
            waiting[request.key] = (place, request)
        except StopIteration as returned:
            results[place] = returned.value
        except Refused as refusal:
            results[place] = [jobs[place].refused(refusal)]

    for place in range(len(jobs)):
        advance(place, None)
    while waiting:
        asked, waiting = waiting, {}
        for completion in engine.generate([request for _, request in asked.values()]):
            on_completion(completion)
            advance(asked[completion.key][0], completion)
    return results


def send(steps: Steps, completion: Completion | None) -> Request:
    """The next request of a job: its first, or the one after that completion. A refusal is thrown into it."""
    if completion is None:
        return next(steps)
    return steps.throw(Refused(completion.refusal)) if completion.refusal else steps.send(completion)


def chunks(jobs: Iterator[Job | Barrier], size: int) -> Iterator[list[Job] | Barrier]:
    """Jobs up to `size`, and the barriers, pulled only when asked for: what follows one depends on earlier verdicts."""
    chunk: list[Job] = []
    for job in jobs:
        if isinstance(job, Barrier):
            if chunk:
                yield chunk
            yield job
            chunk = []
        else:
            chunk.append(job)
            if len(chunk) == size:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


class Answered(NamedTuple):
    """A chunk of so many jobs after the engine: the candidates of each, and the seconds that they took."""

    jobs: int
    candidates: list[list[Record]]
    seconds: float


@dataclass
class Generation:
    """One generation stage being run: replays what is on disk, drives the rest, saves after every chunk.

    Two threads: the caller's pulls jobs and drives them; the judging one judges, writes, counts and saves, chunk by
    chunk and in order, and alone touches `store` and `state` meanwhile. No job behind a barrier is pulled before all in
    front of it are judged. So records, counts and what a kill leaves are those of one thread that does all in turn.
    """

    stage: GenerationStage
    store: RecordStore
    state: StageState
    open_engine: Callable[[], Engine]
    save: Callable[[], None]
    progress: Progress
    abort: AbortOptions

    def run(self, chunk_size: int, part: str = "") -> None:
        """Until the stage yields no more jobs. Raises RunFailed where its yield is hopeless."""
        done = self.state.parts.get(part, 0)
        skipped = done > 0 and self.stage.skip(done)
        ahead = chunks(self.stage.jobs(), chunk_size)
        if not skipped:
            self._replay(ahead, done)
        self._abort_if_hopeless()  # a run aborted once does not creep on under the same settings
        with Judging(partial(self._settle, part)) as judging:
            for chunk in ahead:
                if isinstance(chunk, Barrier):
                    judging.settle()
                else:
                    judging.put(self._answer(chunk, judging.check))

    def _replay(self, ahead: Iterator[list[Job] | Barrier], jobs: int) -> None:
        """Tell the stage what the first jobs gave; a job's candidates are numbered without gaps."""
        while jobs > 0 and (chunk := next(ahead, None)):
            for job in [] if isinstance(chunk, Barrier) else chunk:
                jobs -= 1
                job.steps.close()
                for key in map(job.key, count()):
                    if record := self.store.accepted.get(key):
                        self.stage.accept(record)
                    elif not self.store.rejected.holds(key):
                        break

    def _answer(self, chunk: Sequence[Job], check: Callable[[], None]) -> Answered:
        """Drive a chunk. A fault of the judging thread is looked for at every completion: it ends the rest."""

        def heard(completion: Completion) -> None:
            self.progress.completion(completion)
            check()

        engine = self.open_engine()
        start = time.monotonic()
        candidates = drive(engine, chunk, heard)
        return Answered(len(chunk), candidates, time.monotonic() - start)

    def _settle(self, part: str, answered: Answered) -> None:
        """Judge a chunk, write its records, count and save. Raises RunFailed where the yield is hopeless by now.

        What was generated behind a chunk that ends the run is dropped: how far the engine was changes nothing on disk.
        """
        judged = [self._judge(candidate) for rows in answered.candidates for candidate in rows]
        self.store.append(judged)
        self._count(judged)
        self.state.engine_seconds += answered.seconds
        self.state.parts[part] = self.state.parts.get(part, 0) + answered.jobs
        self.save()
        self._abort_if_hopeless()

    def _judge(self, candidate: Record) -> Record:
        """The record on disk, where a killed process wrote it, else the candidate under the stage's verdict."""
        record = self.store.get(candidate.key) or candidate
        if record is candidate and candidate.verdict.accepted:  # what the job rejected itself needs no judge
            record = candidate.judged(self.stage.judge(candidate))
        if record.verdict.accepted:
            self.stage.accept(record)
        return record

    def _count(self, judged: Sequence[Record]) -> None:
        state, rejected = self.state, Counter(self.state.rejected)
        for record in judged:
            state.tokens += record.tokens
            state.accepted += record.verdict.accepted
            if not record.verdict.accepted:
                rejected[record.verdict.filter] += 1
        state.rejected = dict(rejected.most_common())
        self.progress.judged(len(self.store.accepted), len(self.store.rejected))

    def _abort_if_hopeless(self) -> None:
        judged, accepted = self.state.judged, self.state.accepted
        if judged >= self.abort.after and accepted < min(self.stage.goal, self.abort.min_yield * judged):
            table = "\n".join(f"  {count:6d}  {name}" for name, count in self.state.rejected.items())
            raise RunFailed(
                f"stage {self.stage.name}: only {accepted} of {judged} candidates accepted "
                f"(abort.min_yield {self.abort.min_yield}); rejected by\n{table}",
                self._where_to_look(),
            )

    def _where_to_look(self) -> str:
        """The command that shows what was rejected; `samples` knows the stages of a run, not those of an ablation."""
        if "/" in self.stage.name:
            return f"look at them: {self.store.paths[False]}"
        return f"look at them: selfalign samples {self.store.paths[True].parent} --stage {self.stage.name} --rejected"
