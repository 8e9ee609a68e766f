"""The record, its key, and the append-only store.

A record is one JSON object a line, written once and never changed. Its key is a content hash, so that a resumed run
recognises its own work by what it is and not by where it stands in a file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from selfalign.errors import UserError


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
        row = {name: value for name, value in dataclasses.asdict(self).items() if value not in ("", (), None)}
        row["verdict"] = {name: value for name, value in row["verdict"].items() if value not in ("", None)}
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Raises ValueError or TypeError where the line is not a record."""
        row = json.loads(line)
        row["verdict"] = Verdict(**row["verdict"])
        row["tokens"] = Tokens(**row["tokens"])
        for name in ("messages", "principles", "parents"):
            row[name] = tuple(row.get(name, ()))
        return cls(**row)


def content_hash(value: Any, length: int = 20) -> str:
    """A SHA-256 of `value` as canonical JSON, its first `length` hex digits (80 bits: no clash at 10^9 records)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def record_key(stage: str, settings_hash: str, parents: Sequence[str], index: Sequence[int]) -> str:
    """The key of the candidate at `index` (job, attempt) of `stage` under the settings of `settings_hash`."""
    return content_hash([stage, settings_hash, list(parents), list(index)])


def seed_of(key: str) -> int:
    """The sampling seed of a record: 63 bits of its key, so a record is the same in whichever order it is made."""
    return int(key[:16], 16) >> 1


class RecordStore:
    """The accepted and the rejected records of one stage, each an append-only file.

    Opening repairs a torn last line (a process killed while writing) by cutting it off: it was never acknowledged.
    `append` writes records whose key is not there yet, then flushes and syncs: rejected first, accepted after, so that
    an accepted record never stands without the attempts before it.
    """

    def __init__(self, accepted_path: Path, rejected_path: Path) -> None:
        self.paths = {True: accepted_path, False: rejected_path}
        self.accepted: list[Record] = []
        self.rejected: list[Record] = []
        self._by_key: dict[str, Record] = {}
        for accepted, path in self.paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            repair_torn_line(path)
            self._remember(read_records(path) if path.exists() else (), accepted)

    def get(self, key: str) -> Record | None:
        """The record of that key, accepted or rejected, if it was written before."""
        return self._by_key.get(key)

    def append(self, records: Iterable[Record]) -> None:
        """Write the new ones among `records` and make them durable."""
        new: dict[str, Record] = {}
        for record in records:
            if record.key not in self._by_key:
                new.setdefault(record.key, record)
        for accepted in (False, True):
            part = [record for record in new.values() if record.verdict.accepted is accepted]
            if part:
                append_durably(self.paths[accepted], "".join(record.to_json() + "\n" for record in part))
                self._remember(part, accepted)

    def _remember(self, records: Iterable[Record], accepted: bool) -> None:
        rows = self.accepted if accepted else self.rejected
        for record in records:
            rows.append(record)
            self._by_key[record.key] = record


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file in the order written. A broken line is a UserError with its number."""
    with path.open("rb") as file:  # binary: a line ends at \n only, and is decoded where a fault gets its number
        for number, line in enumerate(file, 1):
            try:
                yield Record.from_json(line.decode())
            except (ValueError, TypeError, KeyError) as fault:
                raise UserError(
                    f"{path}:{number} is not a record: {fault}", "restore the file from a backup, or remove that line"
                ) from fault


def repair_torn_line(path: Path) -> None:
    """Cut off what stands after the last newline: a write that a kill cut short."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
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
