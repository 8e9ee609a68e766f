"""The records that the page itself holds: to search, to filter, and to follow from a response back to its seeds.

They stand in the page as data that its one script reads and shows as text only. A long run is drawn from by the hash of
each record's instruction, so that what belongs together comes together.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from markupsafe import Markup

from selfalign.constitution.schema import Constitution
from selfalign.records import Record
from selfalign.report.read import RunFiles, base_name, read_setting
from selfalign.report.stages import GENERATING
from selfalign.report.words import visible

MOST_RECORDS = 10_000
"""About 8 MB of page: it opens in under two seconds."""
DEFAULT_SHOTS = 5
SHOWN_FIRST = ("responses", "elaborations", "instructions", "topics")


class Explorer(NamedTuple):
    """The data as JSON that no HTML parser can mistake for markup; `shown` records of `total`; their keys."""

    data: Markup
    shown: int
    total: int
    keys: frozenset[str]


def explorer(run: RunFiles, most: int = MOST_RECORDS) -> Explorer | None:
    """None before there is a record."""
    stages = [name for name in run.stage_names if base_name(name) in GENERATING]
    total = sum(judged(run.stage(name)) for name in stages)
    drawn = list(draw(run, stages, most / total if total > most else 1.0))
    if not drawn:
        return None
    drawn.sort(key=lambda record: (SHOWN_FIRST.index(base_name(record.stage)), not record.verdict.accepted))
    keys = frozenset(record.key for record in drawn)
    shots = int(read_setting(run.recipe, "instructions", "shots", DEFAULT_SHOTS))
    content = {
        "stages": stages,
        **written_by_humans(run.constitution),
        "records": [entry(record, stages, keys) | examples(record, run.constitution, shots) for record in drawn],
    }
    return Explorer(inert_json(content), len(drawn), max(total, len(drawn)), keys)


def judged(stage: dict[str, Any]) -> int:
    """Records of a stage, accepted and rejected."""
    rejected: dict[str, int] = stage.get("rejected") or {}
    return int(stage.get("accepted", 0)) + sum(rejected.values())


def draw(run: RunFiles, stages: list[str], share: float) -> Iterator[Record]:
    """That share of the instructions with their answers, of the topics, and of what was rejected before."""
    parents_of_drawn: set[str] = set()
    later = [name for name in stages if base_name(name) not in ("topics", "instructions")]
    for records in (run.accepted("instructions"), run.rejected("instructions")):
        for record in records:
            if falls_under(record.key, share):
                parents_of_drawn.update(record.parents)
                yield record
    for name in later:
        for records in (run.accepted(name), run.rejected(name)):
            yield from (record for record in records if falls_under((record.parents or (record.key,))[0], share))
    for records in (run.accepted("topics"), run.rejected("topics")):
        yield from (record for record in records if record.key in parents_of_drawn or falls_under(record.key, share))


def falls_under(key: str, share: float) -> bool:
    """The same for a key always: a hash of it as a number from 0 to 1."""
    return share >= 1 or zlib.crc32(key.encode()) / 2**32 < share


def written_by_humans(constitution: Constitution | None) -> dict[str, Any]:
    """Principles, types with their seeds, and seed instructions: where every provenance ends."""
    if constitution is None:
        return {"principles": {}, "types": {}, "seeds": []}
    return {
        "principles": {rule.number: [shown(rule.name), shown(rule.text)] for rule in constitution.principles},
        "types": {
            shown(kind.name): [shown(kind.seed.topic), shown(kind.seed.instruction)]
            for kind in constitution.instruction_types
        },
        "seeds": [shown(seed.instruction) for seed in constitution.seeds],
    }


def entry(record: Record, stages: list[str], keys: frozenset[str]) -> dict[str, Any]:
    """A record in few letters; what is empty is left out, and so is a question that its instruction has already."""
    stage = record.stage if record.stage in stages else base_name(record.stage)
    parent = record.parents[0] if record.parents else ""
    is_told = base_name(stage) not in ("topics", "instructions") and parent in keys
    row: dict[str, Any] = {
        "k": record.key,
        "s": stages.index(stage) if stage in stages else 0,
        "u": "" if is_told else shown(record.user),
        "a": shown(record.assistant),
        "h": shown(record.thought),
        "n": list(dict.fromkeys(record.principles)),
        "y": shown(record.type),
        "o": shown(record.topic),
        "p": parent,
        "f": "" if record.verdict.accepted else record.verdict.filter or "rejected",
        "r": shown(record.verdict.reason),
        "m": shown(str(record.engine.get("model", ""))),
        "w": shown(record.origin),
        "t": [record.tokens.prompt, record.tokens.completion],
    }
    return {name: value for name, value in row.items() if value not in ("", [])}


def examples(record: Record, constitution: Constitution | None, shots: int) -> dict[str, list[int]]:
    """Which of the human's examples the prompt of an instruction showed: types for a topic-guided one, else seeds.

    Their places in the constitution. They follow from the record's own seed, as the stage drew them.
    """
    if constitution is None or base_name(record.stage) != "instructions" or not record.engine:
        return {}
    population = len(constitution.instruction_types if record.type else constitution.seeds)
    return {"e": random.Random(record.seed).sample(range(population), min(shots, population))}


def shown(text: str) -> str:
    """As the rest of the page shows text."""
    return str(visible(text))


def inert_json(content: Any) -> Markup:
    """JSON for a script element of type application/json: no `<` or `&` is left that could end it or begin another."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
