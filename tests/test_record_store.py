"""Files of records are read when they are looked at, and found by key without being held in memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from selfalign import record_store
from selfalign.errors import UserError
from selfalign.record_store import Chosen, KeyIndex, RecordFile, RecordStore
from selfalign.records import Record, key_of, repair_torn_line


def rows(count: int) -> list[Record]:
    return [
        Record(f"{number:020x}", "test", ({"role": "user", "content": f"Größe {number}"},)) for number in range(count)
    ]


@pytest.fixture
def file(tmp_path: Path) -> RecordFile:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(row.to_json() + "\n" for row in rows(9)), encoding="utf-8")
    return RecordFile(path)


def test_a_file_of_records_is_a_sequence(file: RecordFile) -> None:
    assert len(file) == 9
    assert list(file) == [file[place] for place in range(9)] == rows(9)
    assert (file[-1], file[2:4], file[::-4]) == (rows(9)[8], rows(9)[2:4], rows(9)[::-4])
    assert list(file.keys()) == [row.key for row in rows(9)]
    with pytest.raises(IndexError):
        file[9]


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "a.jsonl")
    assert (len(file), list(file), list(file.keys()), file.get("a")) == (0, [], [], None)
    assert not (tmp_path / "a.jsonl").exists()


def test_what_another_writer_appends_is_not_seen(file: RecordFile) -> None:
    with file.path.open("a", encoding="utf-8") as other:
        other.write(rows(10)[9].to_json() + "\n{")
    assert list(file) == rows(9)
    assert len(list(file.keys())) == 9
    assert file.get(rows(10)[9].key) is None


def test_what_is_appended_is_found(file: RecordFile) -> None:
    file.append(rows(12)[9:])
    assert list(file) == list(RecordFile(file.path)) == rows(12)
    assert [file.get(row.key) for row in rows(13)] == [*rows(12), None]
    assert [file.holds(row.key) for row in rows(13)] == [True] * 12 + [False]


@pytest.mark.parametrize("recent", [1, 3, 1000])
def test_keys_are_found_whether_they_were_sorted_in_yet_or_not(recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store, "RECENT", recent)
    keys = [f"key{number}" for number in range(500)]
    random.Random(1).shuffle(keys)
    index = KeyIndex(keys[:200])
    for key in keys[200:]:
        assert index.number(key) is None
        index.add(key)
    assert [index.number(key) for key in keys] == list(range(500))


def test_keys_that_share_a_hash_are_told_apart(file: RecordFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file._index, "number", lambda key: 3)
    assert [file.get(row.key) for row in rows(5)] == [None, None, None, rows(5)[3], None]
    assert [file.holds(row.key) for row in rows(5)] == [False, False, False, True, False]


@pytest.mark.parametrize("line", [b'{"key": "a", "stage": 3\n', b"nonsense\n", b'{"stage": "a"}\n', b'{"key": "a'])
def test_a_line_cut_short_is_told_when_the_file_is_opened(file: RecordFile, line: bytes) -> None:
    with file.path.open("ab") as other:
        other.write(line)
    with pytest.raises(UserError, match=r"a\.jsonl:10 is not a record"):
        RecordFile(file.path)


def test_a_line_that_is_broken_inside_is_told_when_it_is_read(file: RecordFile) -> None:
    file.path.write_bytes(file.path.read_bytes() + b'{"key": "a", "stage": }\n' + rows(1)[0].to_json().encode() + b"\n")
    broken = RecordFile(file.path)
    assert broken[8] == rows(9)[8]
    for read in (lambda: broken[9], lambda: broken.get("a"), lambda: list(broken)):
        with pytest.raises(UserError, match=r"a\.jsonl:10 is not a record"):
            read()
    assert broken[10] == rows(1)[0]


def test_a_key_is_read_from_any_line_that_is_a_record() -> None:
    assert key_of(rows(1)[0].to_json().encode() + b"\n") == "0" * 20
    assert key_of(b'{"key": "a\\"b", "stage": "s", "tokens": {}, "verdict": {"accepted": true}}\n') == 'a"b'
    assert key_of(b'{"stage": "s", "key": "k", "tokens": {}, "verdict": {"accepted": true}}') == "k"


def test_chosen_records_are_a_sequence(file: RecordFile) -> None:
    chosen = Chosen(file, [1, 4, 7])
    assert (len(chosen), list(chosen), chosen[-1], chosen[1:]) == (
        3,
        [rows(9)[place] for place in (1, 4, 7)],
        rows(9)[7],
        [rows(9)[4], rows(9)[7]],
    )


@pytest.mark.parametrize("length", [0, 5, 65_535, 65_536, 65_537, 200_000])
def test_a_torn_line_is_cut_off_however_long_it_is(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.jsonl"
    for whole in (b"", b"one\n", b"one\n" * 50_000):
        path.write_bytes(whole + b"x" * length)
        repair_torn_line(path)
        assert path.read_bytes() == whole


def test_an_opened_store_holds_no_records(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    store.append(rows(3))
    for held in (store, store.accepted, store.rejected, store.accepted._index):
        assert not any(isinstance(value, Record | list) for value in vars(held).values())
