"""Showing what a model says: as Markdown on a terminal, as it is anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TextIO

from selfalign.chat.source import Said
from selfalign.chat.stream_markdown import StreamedMarkdown, without_controls


def write_answer(pieces: Generator[Said, None, None], output: TextIO) -> None:
    """Write the pieces as they come, and a newline; the session's turn is over when this returns or raises.

    On a terminal it is Markdown without control characters: a model must not move the cursor or ring the bell.
    Thoughts and notices go to stderr, so that answers can be piped away.
    """
    with closing(pieces):
        if output.isatty():
            show(pieces, output)
        else:
            write(pieces, output)


def show(pieces: Generator[Said, None, None], output: TextIO) -> None:
    """On a terminal: what precedes the answer, the answer drawn as it grows, and what there is to say about it."""
    first, last = asides(pieces), None
    with StreamedMarkdown(output) as markdown:
        if first is not None:
            markdown.add(first.text)
            last = answer(pieces, markdown.add)
    tell_after(last)


def write(pieces: Generator[Said, None, None], output: TextIO) -> None:
    """Anywhere else: text, at once."""
    first, last = asides(pieces), None
    if first is not None:
        write_text(first.text, output)
        last = answer(pieces, lambda text: write_text(text, output))
    write_text("\n", output)
    tell_after(last)


def write_text(text: str, output: TextIO) -> None:
    """Now, not when a buffer is full."""
    output.write(text)
    output.flush()


def asides(pieces: Generator[Said, None, None]) -> Said | None:
    """Tell thoughts and notices as they come, up to the first piece of the answer, which is returned."""
    part = ""
    for piece in pieces:
        if piece.part == "answer":
            break
        if piece.part != part:
            tell_piece(f"\n[{piece.part}] " if part else f"[{piece.part}] ")
        part = piece.part
        tell_piece(without_controls(piece.text))
    else:
        piece = None
    if part:
        tell("")
    return piece


def answer(pieces: Generator[Said, None, None], write: Callable[[str], None]) -> Said | None:
    """Write the answer's pieces; the notice after them is returned."""
    last = None
    for piece in pieces:
        if piece.part == "answer":
            write(piece.text)
        else:
            last = piece
    return last


def tell_after(piece: Said | None) -> None:
    """Tell what comes after an answer."""
    if piece is not None:
        tell(f"[{piece.part}] {without_controls(piece.text)}")


def tell_piece(text: str) -> None:
    """Say a stretch of something that is not an answer."""
    print(text, end="", file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Say something that is not an answer."""
    print(text, file=sys.stderr, flush=True)
