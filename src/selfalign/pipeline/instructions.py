"""Stage instructions: those of sources, topic-guided ones for (type, topic) pairs, and plain self-instruct."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from selfalign.constitution.rendering import (
    STOP_AT_HEADING,
    STOP_TASK,
    Task,
    parse_task,
    self_instruct_prefix,
    self_instruct_prompt,
    topic_guided_prefix,
    topic_guided_prompt,
    user_turn,
)
from selfalign.engines.base import Completion
from selfalign.filters.length import length
from selfalign.filters.novelty_kinds import make_novelty
from selfalign.filters.start import start
from selfalign.filters.text_only import text_only
from selfalign.filters.truncated import truncated
from selfalign.pipeline.sources.taking import Given
from selfalign.pipeline.stage import BARRIER, Barrier, Context, Job, Steps, first_rejection, wave
from selfalign.recipe import InstructionsOptions
from selfalign.records import Message, Record, Verdict, seed_of


class InstructionsStage:
    """First what sources give, then topic-guided ones, then self-instruct; novelty holds over all and the seeds."""

    name = "instructions"
    model = "base"

    def __init__(
        self, context: Context, options: InstructionsOptions, topics: Sequence[Record], given: Sequence[Given] = ()
    ) -> None:
        self.context = context
        self.options = options
        self.given = given
        self.pairs = interleave(topics)
        self.counts = {"topic_guided": 0, "self_instruct": 0}
        self.novelty = make_novelty(**dict(options.novelty))
        for seed in context.constitution.seeds:
            self.novelty.add(seed.instruction)
        for kind in context.constitution.instruction_types:
            self.novelty.add(kind.seed.instruction)

    @property
    def goal(self) -> int:
        """Instructions wanted, of all kinds."""
        return len(self.given) + (self.options.topic_guided if self.pairs else 0) + self.options.self_instruct

    def jobs(self) -> Iterator[Job | Barrier]:
        """What is given; then endless pairs and endless seed samples, in waves of as many as are wanted still."""
        for index, row in enumerate(self.given):
            yield self.context.job(index, (row.key,), partial(self._given_steps, row=row))
        if self.given:
            yield BARRIER
        if self.pairs:
            yield from wave(self._topic_guided(), lambda: self.options.topic_guided - self.counts["topic_guided"])
        yield from wave(self._self_instruct(), lambda: self.options.self_instruct - self.counts["self_instruct"])

    def _topic_guided(self) -> Iterator[Job]:
        for index in count():
            pair = self.pairs[index % len(self.pairs)]
            yield self.context.job(index, (pair.key,), partial(self._topic_guided_steps, pair=pair))

    def _self_instruct(self) -> Iterator[Job]:
        for index in count():
            yield self.context.job(index, (), self._self_instruct_steps)

    def _given_steps(self, key: Callable[[int], str], row: Given) -> Steps:
        """Asks nothing of the model: a human wrote it, or another model did."""
        yield from ()
        message: Message = {"role": "user", "content": user_turn(row.instruction, row.input)}
        record = self.context.record(key(0), messages=(message,), origin=row.origin, licence=row.licence)
        return [replace(record, engine={}, seed=0)]

    def _topic_guided_steps(self, key: Callable[[int], str], pair: Record) -> Steps:
        types = self.context.constitution.instruction_types
        shots = random.Random(seed_of(key(0))).sample(types, min(self.options.shots, len(types)))
        prompt = topic_guided_prompt(shots, pair.type, pair.topic)
        sampling = self.context.sampling(stop=(STOP_AT_HEADING, "\n\n"))
        prefix = topic_guided_prefix(self.context.constitution)
        completion = yield self.context.request(key(0), "instruction", prompt, sampling, prefix)
        candidate = self._candidate(key(0), completion)
        return [replace(candidate, type=pair.type, topic=pair.topic, parents=(pair.key,))]

    def _self_instruct_steps(self, key: Callable[[int], str]) -> Steps:
        seeds = self.context.constitution.seeds
        shots = random.Random(seed_of(key(0))).sample(seeds, min(self.options.shots, len(seeds)))
        prompt = self_instruct_prompt([Task(seed.instruction, seed.input) for seed in shots])
        sampling = self.context.sampling(stop=STOP_TASK)
        prefix = self_instruct_prefix(self.context.constitution)
        completion = yield self.context.request(key(0), "instruction", prompt, sampling, prefix)
        return [self._candidate(key(0), completion)]

    def _candidate(self, key: str, completion: Completion) -> Record:
        """The instruction that a completion holds, with a first verdict on its form."""
        task = parse_task(completion.text)
        verdict = truncated(completion.finish_reason)
        if task is None and verdict.accepted:
            verdict = Verdict.reject("unparsable", f"no instruction in {completion.text[:60]!r}")
        content = user_turn(*task) if task else completion.text.strip()
        message: Message = {"role": "user", "content": content}
        return self.context.record(key, messages=(message,), tokens=completion.tokens, verdict=verdict)

    def skip(self, jobs: int) -> bool:
        """What was accepted decides what is new, and how many are wanted still."""
        return False

    def judge(self, candidate: Record) -> Verdict:
        """Form first, novelty last: it is the dearest."""
        if not candidate.verdict.accepted:
            return candidate.verdict
        instruction = instruction_of(candidate)
        checks: tuple[Callable[[], Verdict], ...] = (
            lambda: length(instruction, self.options.min_words, self.options.max_words),
            lambda: start(instruction),
            lambda: text_only(candidate.user),
            lambda: self.novelty.judge(instruction),
        )
        return first_rejection(check() for check in checks)

    def accept(self, record: Record) -> None:
        """Everything accepted counts for novelty, and for its kind's goal what the model made."""
        self.novelty.add(instruction_of(record))
        if record.origin:
            return
        self.counts["topic_guided" if record.topic else "self_instruct"] += 1


def instruction_of(record: Record) -> str:
    """The instruction of a user turn, without its input (which stands after a blank line)."""
    return record.user.split("\n\n", 1)[0]


def interleave(topics: Sequence[Record]) -> list[Record]:
    """First one topic of every type, then the second ones, so that any number of pairs is balanced over the types."""
    by_type: dict[str, list[Record]] = {}
    for topic in topics:
        by_type.setdefault(topic.type, []).append(topic)
    longest = max(map(len, by_type.values()), default=0)
    return [rows[i] for i in range(longest) for rows in by_type.values() if i < len(rows)]
