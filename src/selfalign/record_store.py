"""The append-only store of a stage's records, and files of records that are read when they are looked at.

A run of a million records must neither hold them in memory nor read them all before it goes on: kept are where each
record begins in its file, and a hash of its key.
"""

from __future__ import annotations

import os
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np

from selfalign import records
from selfalign.records import Record, key_of, not_a_record, read_records, repair_torn_line

RECENT = 1 << 16
"""Keys that are looked up in a dict before they are sorted in among the others."""


class KeyIndex:
    """Key -> number of its record, for keys numbered in the order added: 24 bytes a key, where a dict takes 180.

    Keys are told apart by 64-bit hashes, so whoever asks must look whether the record has that key. Most are asked for
    in the order added, as when a run is resumed: the one after the last found is looked at first.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._hashes = array("q", map(hash, keys))
        self._recent: dict[int, int] = {}
        self._next = 0
        self._sort()

    def add(self, key: str) -> None:
        """The next number is this key's."""
        self._recent[hash(key)] = len(self._hashes)
        self._hashes.append(hash(key))
        if len(self._recent) >= RECENT:
            self._sort()

    def number(self, key: str) -> int | None:
        """The number of the record that has this key, if any has."""
        hashed = hash(key)
        if self._next < len(self._hashes) and self._hashes[self._next] == hashed:
            number = self._next
        elif hashed in self._recent:
            number = self._recent[hashed]
        else:
            at = bisect_left(self._sorted, hashed)
            if at == len(self._sorted) or self._sorted[at] != hashed:
                return None
            number = self._numbers[at]
        self._next = number + 1
        return number

    def _sort(self) -> None:
        hashes = np.array(self._hashes, np.int64)
        order = hashes.argsort()
        self._sorted, self._numbers = array("q", hashes[order].tobytes()), array("q", order.tobytes())
        self._recent = {}


class RecordFile(Sequence[Record]):
    """The records of a file in the order written. What another writer appends after it was opened is not seen.

    Raises UserError with the line's number where one is no record: at once where it is cut short, else when it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends = array("q")
        self._descriptor: int | None = None
        self._index = KeyIndex(self._scan())

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> Record: ...

    @overload
    def __getitem__(self, number: slice) -> list[Record]: ...

    def __getitem__(self, number: int | slice) -> Record | list[Record]:
        places = range(len(self))[number]
        return [self._read(place) for place in places] if isinstance(places, range) else self._read(places)

    def __iter__(self) -> Iterator[Record]:
        return islice(read_records(self.path), len(self)) if len(self) else iter(())

    def keys(self) -> Iterator[str]:
        """The keys alone, which takes a tenth of the time."""
        return islice((key for key, _ in key_lines(self.path)), len(self)) if len(self) else iter(())

    def get(self, key: str) -> Record | None:
        """The record of that key, if there is one."""
        number = self._index.number(key)
        record = None if number is None else self._read(number)
        return record if record and record.key == key else None

    def holds(self, key: str) -> bool:
        """Whether there is a record of that key. All that is read of it is its key."""
        number = self._index.number(key)
        return number is not None and key_of(self._line(number)) == key

    def append(self, rows: Sequence[Record]) -> None:
        """Write them and make them durable."""
        lines = [record.to_json() + "\n" for record in rows]
        records.append_durably(self.path, "".join(lines))
        for record, line in zip(rows, lines, strict=True):
            self._note(len(line.encode()))
            self._index.add(record.key)

    def _scan(self) -> Iterator[str]:
        """Note where the lines end; gives their keys."""
        if self.path.exists():
            for key, size in key_lines(self.path):
                self._note(size)
                yield key

    def _note(self, size: int) -> None:
        self._ends.append(size + (self._ends[-1] if self._ends else 0))

    def _line(self, number: int) -> bytes:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)
        start = self._ends[number - 1] if number else 0
        return os.pread(self._descriptor, self._ends[number] - start, start)

    def _read(self, number: int) -> Record:
        line = self._line(number)
        try:
            return Record.from_json(line.decode())
        except (ValueError, TypeError, KeyError) as fault:
            raise not_a_record(self.path, number + 1, line, fault) from fault


class Chosen(Sequence[Record]):
    """Some of a sequence's records, by their places in it."""

    def __init__(self, rows: Sequence[Record], places: Iterable[int]) -> None:
        self.rows = rows
        self.places = array("q", places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, number: int) -> Record: ...

    @overload
    def __getitem__(self, number: slice) -> list[Record]: ...

    def __getitem__(self, number: int | slice) -> Record | list[Record]:
        if isinstance(number, slice):
            return [self.rows[place] for place in self.places[number]]
        return self.rows[self.places[number]]


class RecordStore:
    """The accepted and the rejected records of one stage, each an append-only file.

    Opening repairs a torn last line (a process killed while writing) by cutting it off: it was never acknowledged.
    `append` writes records whose key is not there yet, then flushes and syncs: rejected first, accepted after, so that
    an accepted record never stands without the attempts before it.
    """

    def __init__(self, accepted_path: Path, rejected_path: Path) -> None:
        self.paths = {True: accepted_path, False: rejected_path}
        for path in self.paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            repair_torn_line(path)
        self.accepted = RecordFile(accepted_path)
        self.rejected = RecordFile(rejected_path)

    def get(self, key: str) -> Record | None:
        """The record of that key, accepted or rejected, if it was written before."""
        return self.accepted.get(key) or self.rejected.get(key)

    def append(self, rows: Iterable[Record]) -> None:
        """Write the new ones among the records and make them durable."""
        new: dict[str, Record] = {}
        for record in rows:
            if record.key not in new and self.get(record.key) is None:
                new[record.key] = record
        for file, accepted in ((self.rejected, False), (self.accepted, True)):
            part = [record for record in new.values() if record.verdict.accepted is accepted]
            if part:
                file.append(part)


def keys_of(rows: Sequence[Record]) -> Iterator[str]:
    """The keys of the records, by the short way where there is one."""
    return rows.keys() if isinstance(rows, RecordFile) else (record.key for record in rows)


def key_lines(path: Path) -> Iterator[tuple[str, int]]:
    """The key and the bytes of every line."""
    with path.open("rb", buffering=1 << 20) as file:
        for number, line in enumerate(file, 1):
            try:
                yield key_of(line), len(line)
            except (ValueError, TypeError, KeyError) as fault:
                raise not_a_record(path, number, line, fault) from fault
