"""Which rows of a source become instructions: cleaned, each once, no more than the cap, with origin and licence."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, NamedTuple

from selfalign.errors import UserError
from selfalign.filters.words import words
from selfalign.pipeline.sources.forms import Asked, first_user_turn
from selfalign.pipeline.sources.rows import Row
from selfalign.recipe import SourceOptions
from selfalign.records import content_hash

MAX_CHARACTERS = 20_000
"""Of an instruction and its input: the stage takes far fewer words, and its filters are not for megabytes."""

# Control characters but tab and newline, halves of surrogate pairs, and marks that reorder what is shown.
UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufeff\u200b\u202a-\u202e\u2066-\u2069]")


class Given(NamedTuple):
    """An instruction from a source; `key` is a hash of its text."""

    key: str
    instruction: str
    input: str
    origin: str
    licence: str


class Taken(NamedTuple):
    """What one source gave, in the order of its rows, and what happened to its other rows."""

    instructions: list[Given]
    rows: int
    passed_over: dict[str, int]
    first_fault: str

    def to_dict(self, source: SourceOptions) -> dict[str, Any]:
        """As the manifest holds it."""
        head = {"path": source.path, "format": source.format, "licence": source.licence, "cap": source.cap}
        counts = {"rows": self.rows, "taken": len(self.instructions), "passed_over": self.passed_over}
        return {**head, **counts, "first_fault": self.first_fault}


def take(source: SourceOptions, rows: Iterable[Row], seed: int, known: set[bytes]) -> Taken:
    """The instructions of a source that are not `known`, whose prints are added to it.

    Where there are more than the cap, those with the smallest hash of seed and text stay: an even draw that needs
    memory for the cap only and does not depend on the order of the rows. UserError where nothing can be taken.
    """
    heap: list[tuple[int, bytes]] = []
    kept: dict[bytes, Given] = {}
    passed: Counter[str] = Counter()
    count, first_fault = 0, ""
    for row in rows:
        count += 1
        found = read_row(row, source)
        if isinstance(found, Refusal):
            passed[found.reason] += 1
            first_fault = first_fault or f"{row.place}: {found.detail}" * bool(found.detail)
            continue
        mark = fingerprint(found)
        if mark in kept or mark in known:
            passed["duplicate"] += 1
            continue
        rank = rank_of(mark, seed)
        if source.cap and len(heap) == source.cap and -heap[0][0] < rank:
            passed["over the cap"] += 1
            continue
        kept[mark] = Given(content_hash(found), *found, row.place, source.licence)
        if source.cap:
            heappush(heap, (-rank, mark))
        if source.cap and len(heap) > source.cap:
            del kept[heappop(heap)[1]]
            passed["over the cap"] += 1
    if not kept:
        raise nothing_taken(source, count, passed, first_fault)
    known |= kept.keys()
    return Taken(list(kept.values()), count, dict(passed.most_common()), first_fault)


class Refusal(NamedTuple):
    """Why a row gives no instruction, in a word to count by, and what is wrong with it where that needs mending."""

    reason: str
    detail: str = ""


def read_row(row: Row, source: SourceOptions) -> Asked | Refusal:
    """The cleaned instruction of a row."""
    if row.fault:
        return Refusal("unreadable", row.fault)
    asked = first_user_turn(row.value, source.format)
    if asked is None:
        return Refusal("no user turn", f"no first user turn ({source.format}) in {keys_of(row.value)}")
    if len(asked.instruction) + len(asked.input) > MAX_CHARACTERS:
        return Refusal("too long")
    cleaned = Asked(clean(asked.instruction), clean(asked.input) if asked.input else "")
    return cleaned if any(map(str.isalnum, cleaned.instruction)) else Refusal("empty")


def keys_of(value: Any) -> str:
    """The keys of a row, or what it is instead."""
    return f"a row of {', '.join(map(str, value))}"[:120] if isinstance(value, dict) else f"{type(value).__name__}"


def clean(text: str) -> str:
    """Composed characters, newlines alone as line breaks, nothing that cannot be seen; markup and code stay text."""
    plain = UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return unicodedata.normalize("NFC", plain).strip()


def fingerprint(asked: Asked) -> bytes:
    """Alike for texts that differ in case, blanks, punctuation and compatible characters only."""
    same = " ".join(words(unicodedata.normalize("NFKC", f"{asked.instruction} {asked.input}")))
    return hashlib.blake2b(same.encode(), digest_size=12).digest()


def rank_of(mark: bytes, seed: int) -> int:
    """Where a text stands in the order that the seed draws."""
    return int.from_bytes(hashlib.blake2b(mark, digest_size=8, key=seed.to_bytes(4, "big")).digest(), "big")


def nothing_taken(source: SourceOptions, rows: int, passed: Counter[str], first_fault: str) -> UserError:
    """The error of a source that gives nothing."""
    reasons = ", ".join(f"{number} {reason}" for reason, number in passed.most_common())
    said = f" ({reasons}{'; first ' if first_fault else ''}{first_fault})" if passed else ""
    return UserError(
        f"source {source.path!r}: none of its {rows} rows gives an instruction{said}",
        "set its format, or leave it out of instructions.sources",
    )
