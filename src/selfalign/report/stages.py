"""The stages of a run: what each cost and kept, and what its filters took out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from selfalign.records import Record
from selfalign.report.read import RunFiles, base_name

GENERATING = ("topics", "instructions", "responses", "elaborations")


class StageRow(NamedTuple):
    """One line of the stages table; None is "does not apply", or "not run yet"."""

    name: str
    state: str
    accepted: int | None = None
    rejected: int | None = None
    share: float | None = None
    jobs: int | None = None
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    speed: float | None = None


class Rejection(NamedTuple):
    """What one filter took out of one stage; `share` is of all that the stage judged."""

    filter: str
    number: int
    share: float
    example: str
    reason: str


class IdentityOverlap(NamedTuple):
    """An identity pair that overlaps a benchmark, by its question: humans wrote it, and it was learnt all the same."""

    question: str
    benchmark: str
    reason: str


class Decontamination(NamedTuple):
    """Of one training's records: how many were looked at and overlap, by benchmark; `searched` has their questions."""

    checked: int
    overlapping: int
    dropped: bool
    by_benchmark: dict[str, int]
    searched: dict[str, int]
    identity_checked: int
    identity: list[IdentityOverlap]

    @property
    def identity_by_benchmark(self) -> dict[str, int]:
        """How many identity pairs overlap each benchmark."""
        return dict(Counter(overlap.benchmark for overlap in self.identity).most_common())


def stage_rows(run: RunFiles) -> list[StageRow]:
    """All stages in order, but the report itself."""
    return [stage_row(run, name) for name in run.stage_names]


def stage_row(run: RunFiles, name: str) -> StageRow:
    """A stage as the manifest has it; counts only for stages that judge candidates."""
    entry = run.stage(name)
    state = entry.get("state", "pending")
    if state == "pending" and not entry.get("seconds"):
        return StageRow(name, state)
    tokens = entry.get("tokens") or {}
    seconds, completion = entry.get("seconds"), tokens.get("completion")
    row = StageRow(
        name,
        state,
        jobs=entry.get("jobs") or None,
        seconds=seconds,
        prompt_tokens=tokens.get("prompt") or None,
        completion_tokens=completion or None,
        speed=completion / seconds if completion and seconds else None,
    )
    if base_name(name) not in GENERATING:
        return row
    accepted, rejected = entry.get("accepted", 0), sum((entry.get("rejected") or {}).values())
    judged = accepted + rejected
    return row._replace(accepted=accepted, rejected=rejected, share=accepted / judged if judged else None)


def total_row(rows: Iterable[StageRow]) -> StageRow:
    """The sums. The speed is that of the stages that generated; a yield over different stages would mean nothing."""
    rows = list(rows)
    generated = [row for row in rows if row.completion_tokens]
    completion = sum(row.completion_tokens or 0 for row in rows)
    seconds = sum(row.seconds or 0.0 for row in generated)
    return StageRow(
        "total",
        "",
        accepted=sum(row.accepted or 0 for row in rows),
        rejected=sum(row.rejected or 0 for row in rows),
        jobs=sum(row.jobs or 0 for row in rows),
        seconds=sum(row.seconds or 0.0 for row in rows),
        prompt_tokens=sum(row.prompt_tokens or 0 for row in rows),
        completion_tokens=completion,
        speed=completion / seconds if seconds else None,
    )


def decontaminations(run: RunFiles) -> dict[str, Decontamination]:
    """Training stage -> what of its records overlaps a benchmark, where it was looked for."""
    entries = {name: run.stage(name).get("decontamination") for name in run.stage_names}
    return {name: decontamination(entry) for name, entry in entries.items() if entry}


def decontamination(entry: dict[str, Any]) -> Decontamination:
    """From a training's entry in the manifest; an old one looked at no identity pairs."""
    identity = entry.get("identity") or {"checked": 0, "overlapping": []}
    return Decontamination(
        entry["checked"],
        entry["overlapping"],
        entry["dropped"],
        entry["by_benchmark"],
        {benchmark: row["questions"] for benchmark, row in entry["benchmarks"].items()},
        identity["checked"],
        [IdentityOverlap(row["question"], row["benchmark"], row["reason"]) for row in identity["overlapping"]],
    )


def identity_overlaps(found: Mapping[str, Decontamination]) -> list[IdentityOverlap]:
    """Those of all trainings, each once."""
    return list(dict.fromkeys(overlap for entry in found.values() for overlap in entry.identity))


def rejections(run: RunFiles) -> dict[str, list[Rejection]]:
    """Stage -> its filters, the strictest first; empty where nothing was rejected, absent where it has not run."""
    return {row.name: stage_rejections(run, row) for row in stage_rows(run) if row.accepted is not None}


def stage_rejections(run: RunFiles, row: StageRow) -> list[Rejection]:
    """What each filter of a stage took out, with one example."""
    examples = example_per_filter(run.rejected(row.name))
    judged = (row.accepted or 0) + (row.rejected or 0)
    found = []
    for filter, number in sorted(run.stage(row.name).get("rejected", {}).items(), key=lambda item: (-item[1], item[0])):
        record = examples.get(filter)
        text, reason = (candidate_text(record), record.verdict.reason) if record else ("", "")
        found.append(Rejection(filter, number, number / judged if judged else 0.0, text, reason))
    return found


def example_per_filter(records: Iterable[Record]) -> dict[str, Record]:
    """Filter -> the rejected record with the lowest key. Keys are hashes, so nobody picked it."""
    examples: dict[str, Record] = {}
    for record in records:
        best = examples.get(record.verdict.filter)
        if best is None or record.key < best.key:
            examples[record.verdict.filter] = record
    return examples


def candidate_text(record: Record) -> str:
    """What the model wrote in a candidate: the last thing that its stage had come to."""
    return record.assistant or record.thought or record.user or record.topic
