"""What went through the pipeline and what fell out of it on the way, counted for a Sankey diagram.

From the candidates on the unit is an instruction (or its one answer), so that bands add up. An instruction is answered
twice, under the principles and under the verbose style, so two bands leave the same instructions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from selfalign.records import Record
from selfalign.report.read import RunFiles, read_rows
from selfalign.report.words import count

MOST_FILTERS = 3
"""Filters of a stage that are drawn one by one."""


class Node(NamedTuple):
    """`kind` is `kept`, `out` (rejected), `human` (written by hand) or `aside` (kept, for another use)."""

    name: str
    column: int
    label: str
    number: int
    kind: str
    detail: str = ""


class Link(NamedTuple):
    """`again` starts at the top of its source once more; a link of no count is drawn as a line: the unit changes."""

    source: str
    target: str
    number: int
    again: bool = False


class Flow(NamedTuple):
    """Nodes by column, from top to bottom as they stand, and what links them."""

    nodes: list[Node]
    links: list[Link]


def flow(run: RunFiles) -> Flow | None:
    """None before there is an instruction."""
    kinds = kinds_of_candidates(run)
    if not kinds.total():
        return None
    drawn = Flow([], [])
    draw_topics(drawn, run)
    for kind, number in kinds.items():
        node(drawn, kind, 2, f"{kind} candidates", number)
    outs = filters_of(run, "instructions")
    accepted = kinds.total() - sum(by_kind.total() for by_kind in outs.values())
    node(drawn, "instructions", 3, "instructions", accepted)
    for kind, number in kinds.items():
        kept = number - sum(by_kind[kind] for by_kind in outs.values())
        link(drawn, kind, "instructions", kept)
    for filter, by_kind in strictest(outs):
        name = out(drawn, "instructions", 3, filter, by_kind.total())
        for kind in kinds:
            link(drawn, kind, name, by_kind[kind])
    draw_answers(drawn, run, accepted)
    return drawn


def kinds_of_candidates(run: RunFiles) -> Counter[str]:
    """How many instructions were proposed, by how."""
    counts: Counter[str] = Counter()
    for records in (run.accepted("instructions"), run.rejected("instructions")):
        counts.update(kind_of(record) for record in records)
    return counts


def kind_of(record: Record) -> str:
    """How an instruction came about."""
    return "from sources" if record.origin else "topic-guided" if record.type else "self-instruct"


def filters_of(run: RunFiles, stage: str) -> dict[str, Counter[str]]:
    """Filter -> the kinds of the instructions that it took out."""
    counts: dict[str, Counter[str]] = {}
    for record in run.rejected(stage):
        counts.setdefault(record.verdict.filter, Counter())[kind_of(record)] += 1
    return counts


def strictest(filters: Mapping[str, Counter[str]]) -> list[tuple[str, Counter[str]]]:
    """The filters that took out most, one by one, and the others as one."""
    ordered = sorted(filters.items(), key=lambda item: (-item[1].total(), item[0]))
    rest = ordered[MOST_FILTERS:]
    if len(rest) < 2:
        return ordered
    names = ", ".join(f"{name} {count(number.total())}" for name, number in rest)
    return [*ordered[:MOST_FILTERS], (f"other: {names}", sum((number for _, number in rest), Counter()))]


def draw_topics(drawn: Flow, run: RunFiles) -> None:
    """Topics, and what was dropped of them; a line leads to the instructions that they guide."""
    entry = run.stage("topics")
    kept, dropped = entry.get("accepted", 0), sum((entry.get("rejected") or {}).values())
    if not kept:
        return
    node(drawn, "brainstormed", 0, "topics brainstormed", kept + dropped)
    node(drawn, "topics", 1, "topics", kept)
    link(drawn, "brainstormed", "topics", kept)
    if dropped:
        detail = ", ".join(f"{name} {count(number)}" for name, number in entry["rejected"].items())
        drawn.nodes.append(Node("topics/out", 1, "rejected", dropped, "out", detail))
        link(drawn, "brainstormed", "topics/out", dropped)
    drawn.links.append(Link("topics", "topic-guided", 0))


def draw_answers(drawn: Flow, run: RunFiles, instructions: int) -> None:
    """Responses and elaborations, side by side, and the rows learnt of them."""
    last = {record.parents[:1] or record.key: record for record in run.rejected(run.kept_responses)}
    answered = {record.parents[:1] or record.key: record.key for record in run.accepted(run.kept_responses)}
    unanswered: dict[str, Counter[str]] = {}
    for parent, record in last.items():
        if parent not in answered:
            unanswered.setdefault(record.verdict.filter, Counter())[kind_of(record)] += 1
    engraved = "engrave" + run.kept_responses.removeprefix("responses")
    asked = draw_lane(drawn, run, "responses", set(answered.values()), unanswered, engraved)
    elaborated = {record.key for record in run.accepted("elaborations")}
    draw_lane(drawn, run, "elaborations", elaborated, filters_of(run, "elaborations"), "clone", again=True)
    if asked and instructions > asked:
        is_over = run.stage(run.kept_responses).get("state") == "done"
        label = "held out of all training" if is_over else "held out, or not asked yet"
        node(drawn, "held out", 4, label, instructions - asked, "aside")
        link(drawn, "instructions", "held out", instructions - asked)
    for source, number in {
        link.source: link.number for link in drawn.links if link.source.startswith("identity ")
    }.items():
        node(drawn, source, 4, "identity, human-written", number, "human")


def draw_lane(
    drawn: Flow,
    run: RunFiles,
    stage: str,
    keys: set[str],
    filters: Mapping[str, Counter[str]],
    training: str,
    again: bool = False,
) -> int:
    """One way of answering, to its data set; gives how many instructions were asked."""
    if not keys and not filters:
        return 0
    node(drawn, stage, 4, stage, len(keys))
    drawn.links.append(Link("instructions", stage, len(keys), again))
    for filter, by_kind in strictest(filters):
        name = out(drawn, stage, 4, filter, by_kind.total())
        link(drawn, "instructions", name, by_kind.total())
    draw_rows(drawn, stage, keys, run.path / "datasets" / training, training)
    return len(keys) + sum(by_kind.total() for by_kind in filters.values())


def draw_rows(drawn: Flow, stage: str, keys: set[str], dataset: Path, training: str) -> None:
    """The rows of a training: those that records became, and those that a human wrote."""
    learnt, measured, dropped = (keys_in(dataset / f"{part}.jsonl") for part in ("train", "validation", "overlaps"))
    if not learnt:
        return
    human = len(learnt - keys)
    node(drawn, training, 5, f"learnt by {training}", len(learnt))
    link(drawn, stage, training, len(learnt & keys))
    if human:
        drawn.links.append(Link(f"identity {human}", training, human, again=True))
    for name, label, rows, kind in (
        ("validation", "to measure the loss", measured & keys, "aside"),
        ("overlaps", "overlap a benchmark", (dropped & keys) - learnt, "out"),
    ):
        if rows:
            node(drawn, f"{training}/{name}", 5, label, len(rows), kind)
            link(drawn, stage, f"{training}/{name}", len(rows))


def keys_in(path: Path) -> set[str]:
    """The keys of a file's rows; empty where it is absent."""
    return {str(row.get("key")) for row in read_rows(path)}


def node(drawn: Flow, name: str, column: int, label: str, number: int, kind: str = "kept") -> None:
    """Add one."""
    drawn.nodes.append(Node(name, column, label, number, kind))


def out(drawn: Flow, stage: str, column: int, filter: str, number: int) -> str:
    """Add what a filter took out, and give its name; the others together have their names as detail."""
    label, _, detail = filter.partition(": ")
    label = f"{label} filters" if detail else label
    drawn.nodes.append(Node(f"{stage}/{filter}", column, label, number, "out", detail))
    return f"{stage}/{filter}"


def link(drawn: Flow, source: str, target: str, number: int) -> None:
    """Add one, unless nothing flows."""
    if number > 0:
        drawn.links.append(Link(source, target, number))
