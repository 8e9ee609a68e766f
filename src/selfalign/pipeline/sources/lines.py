"""Lines out of files of any encoding and size: packed or not, one at a time, none larger than MAX_ROW in memory."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

MAX_ROW = 64 * 2**20
"""Bytes of a line, and characters of an item of a list: what is longer is no conversation."""
CHUNK = 2**20
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

FALLBACK = "selfalign-cp1252"
codecs.register_error(FALLBACK, lambda fault: windows_1252(cast(UnicodeDecodeError, fault)))


def windows_1252(fault: UnicodeDecodeError) -> tuple[str, int]:
    """Bytes that are not UTF-8 are mostly of Windows-1252, often within a text that is UTF-8 otherwise."""
    return fault.object[fault.start : fault.end].decode("cp1252", "replace"), fault.end


class Line(NamedTuple):
    """A line with its number, from 1, and its line break; `text` is None where it is longer than MAX_ROW."""

    number: int
    text: str | None


def too_long() -> str:
    """Why a line has no text."""
    return f"longer than {MAX_ROW // 2**20} MiB"


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def text_of(stream: IO[bytes]) -> io.TextIOWrapper:
    """The text of a stream: UTF-16 where it begins so, else UTF-8, a byte of which may be of another encoding."""
    encoding = "utf-16" if cast(io.BufferedReader, stream).peek(2)[:2] in UTF16 else "utf-8-sig"
    return io.TextIOWrapper(stream, encoding, errors=FALLBACK, newline="\n")


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file. One that is too long is read to its end and passed over."""
    with opened(path) as stream, text_of(stream) as reader:
        number = 0
        while text := reader.readline(MAX_ROW):
            number += 1
            whole = len(text) < MAX_ROW or text.endswith("\n")
            while not whole:
                more = reader.readline(CHUNK)
                whole = len(more) < CHUNK or more.endswith("\n")
                text = ""
            yield Line(number, text or None)
