"""What became of each instruction type: its topics, how they are covered, and the principles its responses cite."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from selfalign.report.read import RunFiles

ALONE = "without a type"
MOST_TOPICS = 60
"""Topics of a type that are drawn one by one; the others are counted."""
SHADES = 5
"""Steps of the shade that says how much there is."""


class Cell(NamedTuple):
    """How many responses of a type cite a principle, which share that is (0 to 1), and its shade (0 to `SHADES`)."""

    number: int
    share: float
    shade: int


class Topic(NamedTuple):
    """A topic, how many accepted instructions it guided, and its shade."""

    name: str
    number: int
    shade: int


class TypeRow(NamedTuple):
    """One type; `cells` in the order of the principles' numbers. `unused` topics guided no accepted instruction."""

    name: str
    topics: list[Topic]
    more_topics: int
    unused: int
    instructions: int
    responses: int
    cells: list[Cell]


class ByType(NamedTuple):
    """All types, the principles' numbers and names, and over all topics: how many there are, and how many are used."""

    rows: list[TypeRow]
    principles: list[tuple[int, str]]
    topics: int
    used: int
    most: int


class Counts(NamedTuple):
    """By type: instructions of each topic, instructions, responses, and citations of each principle."""

    topics: dict[str, Counter[str]]
    instructions: Counter[str]
    responses: Counter[str]
    cited: dict[str, Counter[int]]


def by_type(run: RunFiles) -> ByType | None:
    """None before there is an instruction."""
    counts = counted(run)
    if not counts.instructions:
        return None
    names = run.constitution.principle_names if run.constitution else {}
    numbers = sorted({*names, *(number for cited in counts.cited.values() for number in cited)})
    most = max((number for topics in counts.topics.values() for number in topics.values()), default=0) or 1
    types = sorted({*counts.topics, *counts.instructions, *counts.responses} - {ALONE})
    types += [ALONE] * (ALONE in counts.instructions or ALONE in counts.responses)
    rows = [type_row(name, counts, numbers, most) for name in types]
    all_topics = [number for topics in counts.topics.values() for number in topics.values()]
    return ByType(
        rows,
        [(number, names.get(number, "?")) for number in numbers],
        len(all_topics),
        sum(number > 0 for number in all_topics),
        most,
    )


def counted(run: RunFiles) -> Counts:
    """One pass over topics, instructions and responses each."""
    topics: dict[str, Counter[str]] = {}
    for record in run.accepted("topics"):
        topics.setdefault(record.type, Counter())[record.topic] += 0
    instructions: Counter[str] = Counter()
    for record in run.accepted("instructions"):
        instructions[record.type or ALONE] += 1
        if record.topic:
            topics.setdefault(record.type, Counter())[record.topic] += 1
    responses: Counter[str] = Counter()
    cited: dict[str, Counter[int]] = {}
    for record in run.accepted(run.kept_responses):
        responses[record.type or ALONE] += 1
        cited.setdefault(record.type or ALONE, Counter()).update(set(record.principles))
    return Counts(topics, instructions, responses, cited)


def type_row(name: str, counts: Counts, numbers: list[int], most: int) -> TypeRow:
    """One type's row; its topics from the most used to the least."""
    topics = sorted(counts.topics.get(name, Counter()).items(), key=lambda item: (-item[1], item[0]))
    answered = counts.responses[name]
    cited = counts.cited.get(name, Counter())
    return TypeRow(
        name,
        [Topic(topic, number, shade(number / most)) for topic, number in topics[:MOST_TOPICS]],
        max(0, len(topics) - MOST_TOPICS),
        sum(number == 0 for _, number in topics),
        counts.instructions[name],
        answered,
        [cell(cited[number], answered) for number in numbers],
    )


def cell(citing: int, responses: int) -> Cell:
    """`citing` of `responses`."""
    share = citing / responses if responses else 0.0
    return Cell(citing, share, shade(share))


def shade(share: float) -> int:
    """0 for nothing, else 1 to `SHADES`."""
    return min(SHADES, 1 + int(share * SHADES)) if share > 0 else 0
