"""The original's JSON files: seed instructions, instruction types with their seed topics, and identity pairs."""

from __future__ import annotations

import json
from typing import Any

from selfalign.constitution.original.piece import Piece, broken, json_items, json_lines, one_line, shown, text_at
from selfalign.constitution.schema import Constitution

REQUIRES = "Questions that require "
NO_INPUT = ("", "<noinput>")
HUMAN, MODEL = ("human", "user"), ("gpt", "assistant")


def read_seeds(text: str, file: str) -> Piece:
    """`instruction`, `instances[0].input` and `is_classification` of each line; worked outputs are not used here."""
    piece, outputs = Piece(file), 0
    seeds: list[dict[str, Any]] = []
    for line, row in json_lines(text, file):
        instance = first_instance(row, file, line)
        piece.lines["seeds", len(seeds)] = line
        given = text_at(instance, "input", file, line) if "input" in instance else ""
        seed: dict[str, Any] = {"instruction": one_line(text_at(row, "instruction", file, line))}
        if given.strip().lower() not in NO_INPUT:
            seed["input"] = given
        if row.get("is_classification"):
            seed["classification"] = True
        outputs += bool(instance.get("output"))
        seeds.append(seed)
    if outputs:
        piece.notes.append(f"{outputs} worked outputs left out: a seed is an instruction and its input")
    piece.put(("seeds",), seeds, 1)
    return piece


def first_instance(row: Any, file: str, line: int) -> dict[str, Any]:
    """`instances[0]`, or nothing where a seed has none."""
    text_at(row, "instruction", file, line)
    instances = row.get("instances") or [{}]
    if not isinstance(instances, list) or not isinstance(instances[0], dict):
        raise broken(file, line, f"`instances` must be a list of objects, not {shown(instances)}")
    return instances[0]


def write_seeds(constitution: Constitution) -> str:
    """The file that reads back as the seeds."""
    rows = (
        {
            "id": f"seed_task_{number}",
            "instruction": seed.instruction,
            "instances": [{"input": seed.input, "output": ""}],
            "is_classification": seed.classification,
        }
        for number, seed in enumerate(constitution.seeds)
    )
    return to_lines(rows)


def read_types(text: str, file: str) -> Piece:
    """`topic`, `question_type` and `question` of each line."""
    piece = Piece(file)
    kinds: list[dict[str, Any]] = []
    for line, row in json_lines(text, file):
        topic, kind, question = (one_line(text_at(row, key, file, line)) for key in TYPE_KEYS)
        named = kind[len(REQUIRES) :] if kind.lower().startswith(REQUIRES.lower()) else kind
        piece.lines["instruction_types", len(kinds)] = line
        kinds.append({"name": named, "seed": {"topic": topic, "instruction": question}})
    piece.put(("instruction_types",), kinds, 1)
    return piece


TYPE_KEYS = ("topic", "question_type", "question")


def write_types(constitution: Constitution) -> str:
    """The file that reads back as the instruction types."""
    rows = (
        dict(zip(TYPE_KEYS, (kind.seed.topic, REQUIRES + kind.name, kind.seed.instruction), strict=True))
        for kind in constitution.instruction_types
    )
    return to_lines(rows)


def read_identity(text: str, file: str) -> Piece:
    """The first exchange of each conversation; a question that has several answers is one group of pairs."""
    piece = Piece(file)
    groups: dict[str, dict[str, Any]] = {}
    longer = 0
    for line, row in json_items(text, file):
        question, answer, rest = first_exchange(row, file, line)
        longer += rest
        group = groups.setdefault(" ".join(question.split()).casefold(), {"questions": [question], "answers": []})
        if not group["answers"]:
            piece.lines["identity", "pairs", len(groups) - 1] = line
        if answer not in group["answers"]:
            group["answers"].append(answer)
    for group in groups.values():
        if len(group["answers"]) > 1:
            group["pairing"] = "every"
    if longer:
        piece.notes.append(f"{longer} conversations cut after their first exchange")
    piece.put(("identity", "pairs"), list(groups.values()), 1)
    return piece


def first_exchange(row: Any, file: str, line: int) -> tuple[str, str, bool]:
    """Question, answer, and whether the conversation goes on."""
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        raise broken(file, line, "`conversations` must be a list of at least two turns")
    for turn, speakers in zip(turns, (HUMAN, MODEL), strict=False):
        if text_at(turn, "from", file, line) not in speakers:
            raise broken(file, line, f"`from` is {turn['from']!r}, not {speakers[0]!r}")
    question, answer = (text_at(turn, "value", file, line) for turn in turns[:2])
    return one_line(question), answer.strip(), len(turns) > 2


def write_identity(constitution: Constitution) -> str:
    """The file that reads back as the identity pairs."""
    rows = [
        {
            "id": f"identity_{number}",
            "conversations": [{"from": HUMAN[0], "value": question}, {"from": MODEL[0], "value": answer}],
        }
        for number, (question, answer) in enumerate(constitution.identity_pairs)
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def to_lines(rows: Any) -> str:
    """JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
