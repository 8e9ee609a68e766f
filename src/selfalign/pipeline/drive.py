"""Driving many jobs at once: each yields a request and is sent its completion, until all have returned."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from selfalign.engines.base import Completion, Engine, Request
from selfalign.errors import RunFailed
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


def chunks(jobs: Iterator[Job | Barrier], size: int) -> Iterator[list[Job]]:
    """Jobs up to `size` or a barrier, pulled only when asked for: what `jobs` yields may depend on earlier verdicts."""
    while True:
        chunk: list[Job] = []
        ended = True
        for job in islice(jobs, size):
            ended = False
            if isinstance(job, Barrier):
                break
            chunk.append(job)
        if ended:
            return
        if chunk:
            yield chunk


@dataclass
class Generation:
    """One generation stage being run: replays what is on disk, drives the rest, saves after every chunk."""

    stage: GenerationStage
    store: RecordStore
    state: StageState
    open_engine: Callable[[], Engine]
    save: Callable[[], None]
    progress: Progress
    abort: AbortOptions

    def run(self, chunk_size: int, part: str = "") -> None:
        """Until the stage yields no more jobs. Raises RunFailed where its yield is hopeless."""
        saved = self.state.parts.get(part, 0)
        replayed = saved if saved and self.stage.skip(saved) else 0
        for chunk in chunks(self.stage.jobs(), chunk_size):
            if replayed < saved:
                replayed += len(chunk)
                self._replay(chunk)
                continue
            self._abort_if_hopeless()
            self._drive(chunk)
            self.state.parts[part] = self.state.parts.get(part, 0) + len(chunk)
            self.save()
        self._abort_if_hopeless()

    def _replay(self, chunk: Sequence[Job]) -> None:
        """Tell the stage what these jobs gave; a job's candidates are numbered without gaps."""
        for job in chunk:
            job.steps.close()
            number = 0
            while record := self.store.get(job.key(number)):
                number += 1
                if record.verdict.accepted:
                    self.stage.accept(record)

    def _drive(self, chunk: Sequence[Job]) -> None:
        engine = self.open_engine()
        start = time.monotonic()
        candidates = drive(engine, chunk, self.progress.completion)
        self.state.engine_seconds += time.monotonic() - start
        judged = [self._judge(candidate) for rows in candidates for candidate in rows]
        self.store.append(judged)
        self._count(judged)

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
        """Looked at before every chunk, so that a run aborted once does not creep on under the same settings."""
        judged, accepted = self.state.judged, self.state.accepted
        if judged >= self.abort.after and accepted < min(self.stage.goal, self.abort.min_yield * judged):
            table = "\n".join(f"  {count:6d}  {name}" for name, count in self.state.rejected.items())
            raise RunFailed(
                f"stage {self.stage.name}: only {accepted} of {judged} candidates accepted "
                f"(abort.min_yield {self.abort.min_yield}); rejected by\n{table}",
                f"look at them: selfalign samples {self.store.paths[True].parent} --stage {self.stage.name} --rejected",
            )
