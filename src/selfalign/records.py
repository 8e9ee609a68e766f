"""The record, its key, and how files of records are read and written.

A record is one JSON object a line, written once and never changed. Its key is a content hash, so that a resumed run
recognises its own work by what it is and not by where it stands in a file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from selfalign.errors import UserError

KEY_LENGTH = 20
"""Hex digits of a key, 80 bits: no clash at 10^9 records."""
KEY_FIRST = b'{"key": "'
"""How a record's line begins."""
BLOCK = 1 << 16
"""Bytes read at once when the end of a file is looked for."""


class Message(TypedDict):
    """One turn of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter, or a stage, says of a candidate.

    `filter` names the filter that rejected it, `reason` says why in words with the value, and `value` is the measured
    number (a ROUGE-L, a count of words) where there is one. An accepted verdict may carry a value too.
    """

    accepted: bool
    filter: str = ""
    reason: str = ""
    value: float | None = None

    @classmethod
    def accept(cls, value: float | None = None) -> Verdict:
        """The candidate may stay."""
        return cls(True, value=value)

    @classmethod
    def reject(cls, filter: str, reason: str, value: float | None = None) -> Verdict:
        """The candidate is out, because of `filter`."""
        return cls(False, filter, reason, value)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that a record cost: `prompt` fed (a shared prefix included), `completion` generated."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of data with its provenance (DESIGN.md section 4).

    An instruction from a source has its `origin`, such as `dolly.jsonl:12`, and the `licence` that the recipe states.
    """

    key: str
    stage: str
    messages: tuple[Message, ...] = ()
    thought: str = ""
    principles: tuple[int, ...] = ()
    type: str = ""
    topic: str = ""
    origin: str = ""
    licence: str = ""
    parents: tuple[str, ...] = ()
    seed: int = 0
    engine: dict[str, Any] = field(default_factory=dict)
    tokens: Tokens = Tokens()
    verdict: Verdict = Verdict(True)

    @property
    def user(self) -> str:
        """The last user turn, or the empty string."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def assistant(self) -> str:
        """The last assistant turn, or the empty string."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "assistant"), "")

    def judged(self, verdict: Verdict) -> Record:
        """The same record under `verdict`."""
        return dataclasses.replace(self, verdict=verdict)

    def to_json(self) -> str:
        """One line of JSON, without its newline; empty fields are left out."""
        row: dict[str, Any] = {name: value for name in FIELDS if (value := getattr(self, name)) not in ("", (), None)}
        verdict = self.verdict
        said = {"filter": verdict.filter, "reason": verdict.reason, "value": verdict.value}
        row["verdict"] = {"accepted": verdict.accepted} | {k: v for k, v in said.items() if v not in ("", None)}
        row["tokens"] = {"prompt": self.tokens.prompt, "completion": self.tokens.completion}
        return as_line(row)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Raises ValueError or TypeError where the line is not a record."""
        row = json.loads(line)
        row["verdict"] = Verdict(**row["verdict"])
        row["tokens"] = Tokens(**row["tokens"])
        for name in ("messages", "principles", "parents"):
            row[name] = tuple(row.get(name, ()))
        return cls(**row)


FIELDS = tuple(field.name for field in dataclasses.fields(Record))
as_line = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder a call, unless all is by default
as_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def content_hash(value: Any, length: int = KEY_LENGTH) -> str:
    """A SHA-256 of `value` as canonical JSON, its first `length` hex digits."""
    return hashlib.sha256(as_canonical(value).encode()).hexdigest()[:length]


def record_keys(stage: str, settings_hash: str, parents: Sequence[str], job: int) -> Callable[[int], str]:
    """The keys of a job's candidates: the content hash of [stage, settings hash, parents, [job, candidate]]."""
    head = key_head(stage, settings_hash, tuple(parents))

    def key(candidate: int) -> str:
        return hashlib.sha256(b"%b,[%d,%d]]" % (head, job, candidate)).hexdigest()[:KEY_LENGTH]

    return key


@lru_cache(maxsize=1)
def key_head(stage: str, settings_hash: str, parents: tuple[str, ...]) -> bytes:
    """What the keys of jobs that differ in their number have in common: jobs without parents are many in a row."""
    return as_canonical([stage, settings_hash, parents]).removesuffix("]").encode()


def seed_of(key: str) -> int:
    """The sampling seed of a record: 63 bits of its key, so a record is the same in whichever order it is made."""
    return int(key[:16], 16) >> 1


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file in the order written. A broken line is a UserError with its number."""
    with path.open("rb") as file:  # binary: a line ends at \n only, and is decoded where a fault gets its number
        for number, line in enumerate(file, 1):
            try:
                yield Record.from_json(line.decode())
            except (ValueError, TypeError, KeyError) as fault:
                raise not_a_record(path, number, line, fault) from fault


def not_a_record(path: Path, number: int, line: bytes, fault: Exception) -> UserError:
    """What is said of a broken line, `number` counted from 1. One without its end may be half written, or was torn."""
    hint = "restore the file from a backup, or remove that line"
    if not line.endswith(b"\n"):
        hint = f"where its stage is not done, the same selfalign run cuts it off and goes on; else {hint}"
    return UserError(f"{path}:{number} is not a record: {fault}", hint)


def key_of(line: bytes) -> str:
    """The key of a record's line, without reading the rest where it stands first and the line is whole.

    Raises ValueError, TypeError or KeyError where the line is not a record.
    """
    if line.startswith(KEY_FIRST) and line.endswith(b"}\n"):
        key = line[len(KEY_FIRST) : line.index(b'"', len(KEY_FIRST))].decode()
        if "\\" not in key:
            return key
    return Record.from_json(line.decode()).key


def repair_torn_line(path: Path) -> None:
    """Cut off what stands after the last newline: a write that a kill cut short."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = whole = file.seek(0, os.SEEK_END)
        while whole:  # block by block from the end: the file may have a gigabyte
            start = max(0, whole - BLOCK)
            file.seek(start)
            newline = file.read(whole - start).rfind(b"\n")
            whole = start + newline + 1
            if newline >= 0:
                break
        if whole < size:
            file.truncate(whole)
            os.fsync(file.fileno())


def append_durably(path: Path, text: str) -> None:
    """Append and sync; a full disk is a UserError, and what was torn is repaired when the file is opened next."""
    try:
        with path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        raise UserError(
            f"cannot write {path}: {fault.strerror}", "free some space and run the same command again", exit_code=1
        ) from fault


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file under a temporary name, sync it and rename it: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as fault:
        raise UserError(
            f"cannot write {path}: {fault.strerror}", "free some space and run the same command again", exit_code=1
        ) from fault
