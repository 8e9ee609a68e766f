"""What a generation stage is: jobs and verdicts, without files, engines or clocks (DESIGN.md section 3)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from selfalign.constitution.chat_format import ChatFormat
from selfalign.constitution.schema import Constitution
from selfalign.engines.base import Completion, Request, Sampling
from selfalign.recipe import Recipe, SamplingOptions
from selfalign.records import Message, Record, Verdict, content_hash, record_keys, seed_of

Steps = Generator[Request, Completion, list[Record]]
"""A job's conversation with the model: yields a request, is sent its completion, returns at least one candidate."""

SMALLEST_WAVE = 8
"""Jobs of a wave at least: smaller ones leave the engine idle, larger ones overshoot a goal."""


@dataclass(frozen=True)
class Job:
    """One unit of work. `key(i)` is the key of its i-th candidate, known before it runs.

    `refused` makes the record of a job that ended because the engine refused a request.
    """

    index: int
    key: Callable[[int], str]
    steps: Steps
    refused: Callable[[Refused], Record]


class Refused(Exception):
    """Thrown into a job at the request that the engine refused; a job that does not catch it ends with one record."""

    @property
    def verdict(self) -> Verdict:
        """Rejected by the engine, in its words."""
        return Verdict.reject("engine", str(self))


class Barrier:
    """Yielded among jobs: those after it are pulled once all before it are judged, and may depend on the verdicts."""


BARRIER = Barrier()


class GenerationStage(Protocol):
    """A stage that generates records.

    The runner pulls jobs, drives them chunk by chunk, judges their candidates in job order and tells the stage of every
    one accepted. It pulls and drives on meanwhile, in another thread, up to a barrier: only there are all jobs before
    it judged. So right after a barrier, and nowhere else, `jobs` may look at what was accepted. A run that is resumed
    replays the same calls with the verdicts on disk; a stage that never looks lets itself `skip` what is done instead.
    """

    name: str
    model: str
    """Which model generates: `base`, `engraved` or `final`."""
    context: Context

    @property
    def goal(self) -> int:
        """Records wanted, for progress."""
        ...

    def jobs(self) -> Iterator[Job | Barrier]:
        """The work, pulled one by one."""
        ...

    def skip(self, jobs: int) -> bool:
        """Before `jobs` is called: leave out the first so many, which are done. False: they must be replayed."""
        ...

    def judge(self, candidate: Record) -> Verdict:
        """Whether a candidate becomes data."""
        ...

    def accept(self, record: Record) -> None:
        """Take note of an accepted record."""
        ...


@dataclass(frozen=True)
class Context:
    """What every stage needs: the inputs of the run, and the means to make keys and requests."""

    stage: str
    recipe: Recipe
    constitution: Constitution
    constitution_hash: str
    options: SamplingOptions
    engine: dict[str, Any]
    chat_format: ChatFormat
    settings_hash: str = field(init=False)

    def __post_init__(self) -> None:
        settings = [self.constitution_hash, self.options.model_dump(mode="json"), self.recipe.seed, self.engine]
        object.__setattr__(self, "settings_hash", content_hash(settings))

    def job(self, index: int, parents: Sequence[str], steps: Callable[[Callable[[int], str]], Steps]) -> Job:
        """A job whose candidate keys follow from the stage, its settings, `parents` and `index`."""
        key = record_keys(self.stage, self.settings_hash, parents, index)

        def refused(refusal: Refused) -> Record:
            return self.record(key(0), parents=tuple(parents), verdict=refusal.verdict)

        return Job(index, key, steps(key), refused)

    def jobs_of(
        self, instructions: Sequence[Record], steps: Callable[..., Steps], first: int = 0
    ) -> Iterator[Job | Barrier]:
        """One job an instruction, in their order from the one numbered `first`: `steps(key, instruction=...)`."""
        for index in range(first, len(instructions)):
            instruction = instructions[index]
            yield self.job(index, (instruction.key,), partial(steps, instruction=instruction))

    def sampling(self, max_tokens: int | None = None, **changes: Any) -> Sampling:
        """The stage's sampling options as a request takes them."""
        options = self.options
        limit = options.max_tokens if max_tokens is None else max_tokens
        return Sampling(options.temperature, options.top_p, limit, **changes)

    def request(self, key: str, step: str, prompt: str, sampling: Sampling, prefix: str = "") -> Request:
        """A raw request; every step of a record has a seed of its own."""
        return Request(f"{key}/{step}", prompt, prefix, sampling, seed_of(content_hash([key, step])))

    def chat_request(self, key: str, messages: Sequence[Message], sampling: Sampling) -> Request:
        """A request in the chat format, open where the assistant answers."""
        prompt = self.chat_format.render(list(messages), add_generation_prompt=True)
        return Request(f"{key}/answer", prompt, "", sampling, seed_of(content_hash([key, "answer"])), chat_format=True)

    def record(self, key: str, **fields: Any) -> Record:
        """A candidate of this stage."""
        return Record(key=key, stage=self.stage, seed=seed_of(key), engine=self.engine, **fields)


def wave(jobs: Iterator[Job], remaining: Callable[[], int]) -> Iterator[Job | Barrier]:
    """As many jobs as are wanted still, then a barrier, until none is wanted."""
    while (wanted := remaining()) > 0:
        for _ in range(max(wanted, SMALLEST_WAVE)):
            yield next(jobs)
        yield BARRIER


def first_rejection(verdicts: Iterator[Verdict]) -> Verdict:
    """The first verdict that rejects, else acceptance: filters stand in order, the cheapest first."""
    return next((verdict for verdict in verdicts if not verdict.accepted), Verdict.accept())
