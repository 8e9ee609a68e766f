"""The record, its key, and the store that nothing accepted is lost from."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign import records
from selfalign.errors import UserError
from selfalign.record_store import RecordStore
from selfalign.records import (
    Record,
    Tokens,
    Verdict,
    append_durably,
    content_hash,
    read_records,
    record_keys,
    repair_torn_line,
    seed_of,
    write_atomically,
)

# Each of these ends a line for str.splitlines, and must not in a file of records.
LINE_ENDS = "a\nb\rc\r\nd\u2028e\u2029f\x85g\x0bh\x0ci\x1cj\x1dk\x1el"


def record(number: int, accepted: bool = True, text: str = "") -> Record:
    verdict = Verdict.accept() if accepted else Verdict.reject("novelty", "ROUGE-L 0.80 with x", 0.8)
    message = {"role": "user", "content": text or f"Größe {number}"}
    return Record(f"key{number}", "responses", (message,), verdict=verdict)  # type: ignore[arg-type]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "responses.jsonl", tmp_path / "rejected" / "responses.jsonl"


def keys(rows: Iterable[Record]) -> list[str]:
    return [row.key for row in rows]


# ------------------------------------------------------------------------------------------------------- the record


FULL = Record(
    key="ab12",
    stage="responses",
    messages=({"role": "user", "content": LINE_ENDS}, {"role": "assistant", "content": "Größe “漢字” 😀"}),
    thought="2 (helpful) applies",
    principles=(2, 7),
    type="sums",
    topic="Coins",
    parents=("cd34",),
    seed=7,
    engine={"kind": "scripted", "model": "m"},
    tokens=Tokens(1702, 88),
    verdict=Verdict.reject("novelty", "ROUGE-L 0.83", 0.83),
)


@pytest.mark.parametrize("row", [FULL, Record("ab12", "topics"), FULL.judged(Verdict.accept(0.0))])
def test_a_record_is_one_line_and_comes_back_equal(row: Record) -> None:
    line = row.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == row


def test_a_line_is_readable_json_without_empty_fields() -> None:
    row = json.loads(record(1).to_json())
    assert list(row) == ["key", "stage", "messages", "seed", "engine", "tokens", "verdict"]
    assert row["verdict"] == {"accepted": True}
    assert "Größe" in record(1).to_json()
    assert json.loads(record(1, accepted=False).to_json())["verdict"] == {
        "accepted": False,
        "filter": "novelty",
        "reason": "ROUGE-L 0.80 with x",
        "value": 0.8,
    }


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    assert Record.from_json(record(1, text=text).to_json()) == record(1, text=text)


def test_the_last_turns() -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = Record("k", "s", tuple({"role": role, "content": text} for role, text in turns))  # type: ignore[misc]
    assert (row.user, row.assistant) == ("c", "d")
    assert (Record("k", "s").user, Record("k", "s").assistant) == ("", "")


def test_tokens_add() -> None:
    assert Tokens(1, 2) + Tokens(10, 20) == Tokens(11, 22)


# ----------------------------------------------------------------------------------------------------- keys and seeds


def test_a_key_depends_on_everything_it_stands_for_and_on_nothing_else() -> None:
    key = record_keys("responses", "abc", ["p"], 1)(0)
    others = [
        record_keys("topics", "abc", ["p"], 1)(0),
        record_keys("responses", "abd", ["p"], 1)(0),
        record_keys("responses", "abc", [], 1)(0),
        record_keys("responses", "abc", ["p", "q"], 1)(0),
        record_keys("responses", "abc", ["p"], 1)(1),
        record_keys("responses", "abc", ["p"], 0)(1),
    ]
    assert key == record_keys("responses", "abc", ("p",), 1)(0) == "f068ea73a598562211f9"  # pinned: runs resume by it
    assert key == content_hash(["responses", "abc", ["p"], [1, 0]])
    assert len({key, *others}) == 7


def test_a_hash_is_of_content_not_of_order() -> None:
    assert content_hash({"a": 1, "b": "é"}) == content_hash({"b": "é", "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert len(content_hash("x")) == 20


def test_a_seed_fits_63_bits() -> None:
    assert seed_of("f" * 20) == 2**63 - 1
    assert seed_of("0" * 20) == 0


# --------------------------------------------------------------------------------------------------------- the store


def test_what_was_appended_is_there_when_opened_again(paths: tuple[Path, Path]) -> None:
    store = RecordStore(*paths)
    store.append([record(1), record(2, accepted=False), record(3, text=LINE_ENDS)])
    store.append([record(4)])
    again = RecordStore(*paths)
    assert keys(again.accepted) == keys(store.accepted) == ["key1", "key3", "key4"]
    assert keys(again.rejected) == keys(store.rejected) == ["key2"]
    assert again.get("key3") == record(3, text=LINE_ENDS)
    assert again.get("key2") == record(2, accepted=False)
    assert again.get("key5") is None


def test_nothing_is_written_twice(paths: tuple[Path, Path]) -> None:
    store = RecordStore(*paths)
    store.append([record(1), record(1), record(2, accepted=False)])
    before = [path.read_bytes() for path in paths]
    store.append([record(1), record(2, accepted=False)])
    store.append([record(1, accepted=False)])  # known under the other verdict
    RecordStore(*paths).append([record(1)])
    assert [path.read_bytes() for path in paths] == before
    assert (keys(store.accepted), keys(store.rejected)) == (["key1"], ["key2"])


def test_an_empty_store_makes_no_file(paths: tuple[Path, Path]) -> None:
    store = RecordStore(*paths)
    store.append([])
    assert (list(store.accepted), list(store.rejected)) == ([], [])
    assert not any(path.exists() for path in paths)


def test_rejected_records_are_written_before_accepted_ones(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Path, int]] = []
    monkeypatch.setattr(records, "append_durably", lambda path, text: written.append((path, text.count("\n"))))
    RecordStore(*paths).append([record(1), record(2, accepted=False), record(3), record(4, accepted=False)])
    assert written == [(paths[1], 2), (paths[0], 2)]


@pytest.mark.parametrize("accepted", [True, False])
def test_a_torn_line_is_cut_off_wherever_it_was_torn(paths: tuple[Path, Path], accepted: bool) -> None:
    path = paths[0] if accepted else paths[1]
    store = RecordStore(*paths)
    store.append([record(1, accepted)])
    whole = path.read_bytes()
    torn = (record(2, accepted, "für 漢字 😀").to_json() + "\n").encode()
    for length in range(len(torn)):
        path.write_bytes(whole + torn[:length])
        store = RecordStore(*paths)
        assert path.read_bytes() == whole
        assert keys(store.accepted if accepted else store.rejected) == ["key1"]
    store.append([record(2, accepted, "für 漢字 😀")])
    assert path.read_bytes() == whole + torn


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    repair_torn_line(path)
    assert not path.exists()
    path.write_bytes(b'{"key": "\xe6\xbc')
    repair_torn_line(path)
    assert path.read_bytes() == b""


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(FULL.to_json() + "\n" + record(2).to_json() + "\n", encoding="utf-8", newline="")
    assert "\u2028" in path.read_text(encoding="utf-8")
    assert list(read_records(path)) == [FULL, record(2)]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b'{"key": "a"\n',
        b"[]\n",
        b"null\n",
        b"5\n",
        b'{"key": "a", "stage": "s"}\n',
        b'{"key": "a", "stage": "s", "verdict": {"accepted": true}, "tokens": 3}\n',
        b'{"key": "a", "stage": "s", "verdict": {"accepted": true}, "tokens": {}, "colour": 1}\n',
        b'{"key": "a\xe6\xbc"}\n',
        b'{"key": "a\xe6\xbc',
    ],
)
def test_a_broken_line_is_told_with_file_and_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((record(1).to_json() + "\n").encode() + line)
    rows = read_records(path)
    assert next(rows) == record(1)
    with pytest.raises(UserError) as caught:
        next(rows)
    assert caught.value.message.startswith(f"{path}:2 is not a record: ")
    torn = (
        ""
        if line.endswith(b"\n")
        else "where its stage is not done, the same selfalign run cuts it off and goes on; else "
    )
    assert caught.value.hint == f"{torn}restore the file from a backup, or remove that line"
    assert caught.value.exit_code == 2


# ----------------------------------------------------------------------------------------------------------- writing


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("write", [append_durably, write_atomically])
def test_a_full_disk_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old\n")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError) as caught:
        write(path, "new\n")  # type: ignore[operator]
    assert str(caught.value) == (
        f"cannot write {path}: No space left on device\n  next: free some space and run the same command again"
    )
    assert caught.value.exit_code == 1
    assert path.read_text().startswith("old\n")


def test_a_whole_file_is_replaced_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomically(path, "one\r\n\u2028é")
    assert path.read_bytes() == "one\r\n\u2028é".encode()
    write_atomically(path, "two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.read_text()))
    write_atomically(path, "new")
    assert (seen, path.read_text()) == (["old"], "new")
