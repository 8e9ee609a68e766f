"""Decontamination: which records overlap a benchmark, so that no model learns what it is measured on.

It stands before a training, not in the generation stages: another benchmark drops other rows, and makes nothing anew.
Identity pairs are counted and kept: humans wrote them, and without "Who are you?" no model learns its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from selfalign.filters.overlaps_benchmark import Benchmark, Overlap, OverlapsBenchmark
from selfalign.recipe import DecontaminateOptions
from selfalign.records import Record, Verdict, content_hash

FILTER = "overlaps_benchmark"
PARTS = {"user": "instruction", "assistant": "response"}
PAIR = ("question", "answer")


class IdentityOverlap(NamedTuple):
    """An identity pair that overlaps a benchmark, by its question; `reason` and `value` as an `Overlap` has them."""

    question: str
    benchmark: str
    reason: str
    value: float


class IdentityFound(NamedTuple):
    """What was found in the identity pairs of a training, which learns them all the same."""

    checked: int = 0
    overlapping: tuple[IdentityOverlap, ...] = ()


NO_IDENTITY = IdentityFound()


class Decontamination(NamedTuple):
    """What was found in the records of one training: `overlapping` ones have the verdict that says why."""

    checked: int
    overlapping: tuple[Record, ...]
    by_benchmark: dict[str, int]
    benchmarks: dict[str, dict[str, Any]]
    dropped: bool
    identity: IdentityFound = NO_IDENTITY

    def to_dict(self) -> dict[str, Any]:
        """As the manifest holds it."""
        counts = {"checked": self.checked, "overlapping": len(self.overlapping), "dropped": self.dropped}
        pairs = [overlap._asdict() for overlap in self.identity.overlapping]
        identity = {"checked": self.identity.checked, "overlapping": pairs}
        return counts | {"by_benchmark": self.by_benchmark, "benchmarks": self.benchmarks, "identity": identity}

    @property
    def in_words(self) -> str:
        """`2 of 96 records overlap a benchmark (hhh 2) and were dropped; searched for: ...`"""
        return in_words(self.to_dict())


@dataclass
class Sieve:
    """Lets records through that overlap no benchmark; `found` is what it found in the first list it was given.

    Without `finder` everything passes and nothing is found. A record is looked at once.
    """

    benchmarks: Sequence[Benchmark] = ()
    finder: OverlapsBenchmark | None = None
    drop: bool = True
    verdicts: dict[str, tuple[Overlap, Record] | None] = field(default_factory=dict)
    found: Decontamination | None = None
    identity: IdentityFound = NO_IDENTITY

    def look_at(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Count which (question, answer) pairs of the identity overlap; call it before `kept`, whose facts tell it."""
        if self.finder is not None:
            overlaps = [(pair[0], first_overlap(zip(PAIR, pair, strict=True), self.finder)) for pair in pairs]
            named = tuple(IdentityOverlap(question, *overlap) for question, overlap in overlaps if overlap)
            self.identity = IdentityFound(len(pairs), named)

    def kept(self, records: Sequence[Record]) -> list[Record]:
        """The records to learn from."""
        if self.finder is None:
            return list(records)
        overlaps = {record.key: overlap for record in records if (overlap := self._overlap(record))}
        if self.found is None:
            self.found = self._facts(len(records), list(overlaps.values()))
        return [record for record in records if not (self.drop and record.key in overlaps)]

    def _overlap(self, record: Record) -> tuple[Overlap, Record] | None:
        if record.key not in self.verdicts:
            self.verdicts[record.key] = overlap_of(record, self.finder) if self.finder else None
        return self.verdicts[record.key]

    def _facts(self, checked: int, overlaps: Sequence[tuple[Overlap, Record]]) -> Decontamination:
        counts = dict(Counter(overlap.benchmark for overlap, _ in overlaps).most_common())
        benchmarks = {benchmark.name: described(benchmark) for benchmark in self.benchmarks}
        records = tuple(record for _, record in overlaps)
        return Decontamination(checked, records, counts, benchmarks, self.drop, self.identity)


def sieve_of(options: DecontaminateOptions, find: Callable[[Sequence[str]], Iterable[Benchmark]]) -> Sieve:
    """The sieve of a recipe; `find` gives the benchmarks at hand and those at the paths named."""
    return make_sieve(options, find(options.data)) if options.enabled else Sieve()


def make_sieve(options: DecontaminateOptions, benchmarks: Iterable[Benchmark]) -> Sieve:
    """A sieve that looks for these benchmarks."""
    texts = tuple(benchmarks)
    return Sieve(texts, OverlapsBenchmark(texts, options.ngram, options.rouge_l), options.drop)


def overlap_of(record: Record, finder: OverlapsBenchmark) -> tuple[Overlap, Record] | None:
    """The first overlap of its instruction or response, and the record with the verdict."""
    said = ((PARTS[message["role"]], message["content"]) for message in record.messages if message["role"] in PARTS)
    overlap = first_overlap(said, finder)
    return overlap and (overlap, record.judged(Verdict.reject(FILTER, overlap.reason, overlap.value)))


def first_overlap(parts: Iterable[tuple[str, str]], finder: OverlapsBenchmark) -> Overlap | None:
    """Of (name, text) parts, the first overlap; its reason begins with the part's name."""
    for name, text in parts:
        if overlap := finder.find(text):
            return overlap._replace(reason=f"{name}: {overlap.reason}", value=round(overlap.value, 3))
    return None


def described(benchmark: Benchmark) -> dict[str, Any]:
    """How many questions it has, and a hash of all its texts."""
    return {"questions": len(benchmark.questions), "hash": content_hash([benchmark.questions, benchmark.others])}


def in_words(facts: dict[str, Any]) -> str:
    """From the manifest's entry."""
    by = ", ".join(f"{name} {count}" for name, count in facts["by_benchmark"].items())
    overlap = f"{facts['overlapping']:,} of {facts['checked']:,} records overlap a benchmark"
    fate = "were dropped before training" if facts["dropped"] else "were NOT dropped (decontaminate.drop is false)"
    searched = ", ".join(f"{name} ({row['questions']:,})" for name, row in facts["benchmarks"].items())
    found = f"{overlap}{f' ({by}) and {fate}' if by else ''}; searched for the questions of {searched}."
    return f"{found}{identity_in_words(facts.get('identity') or {})}"


def identity_in_words(facts: dict[str, Any]) -> str:
    """From that part of the manifest's entry; empty where no identity pair was looked at."""
    if not facts.get("checked"):
        return ""
    named = ", ".join(f'"{row["question"]}" ({row["benchmark"]})' for row in facts["overlapping"])
    fate = f" and were kept: {named}" if named else ""
    return (
        f" Of the {facts['checked']:,} identity pairs, which humans wrote, {len(facts['overlapping'])} overlap{fate}."
    )
