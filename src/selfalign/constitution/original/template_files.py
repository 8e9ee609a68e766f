"""The prompts that make topics and instructions: prose, with `{}` where the original's code puts a type or a list in.

`{{` and `}}` stand for braces, as in Python's `str.format`. The lists themselves are the renderer's here, so of the
instruction prompt only the prose before its lists is taken.
"""

from __future__ import annotations

import string

from selfalign.constitution.original.piece import Piece, broken
from selfalign.constitution.schema import Constitution
from selfalign.constitution.templating import STAGE_VARIABLE

Parts = list[list[str]]
"""A text cut at its `{}`, each piece with its braces read."""


def split_fields(text: str, file: str) -> Parts:
    """The pieces between the `{}`, line by line so that a fault has its line."""
    parts: Parts = [[""]]
    for line, row in enumerate(text.rstrip().split("\n"), 1):
        try:
            fields = list(string.Formatter().parse(row))
        except ValueError as fault:
            raise broken(file, line, f"{fault}; a brace is written {{{{ or }}}}") from fault
        for literal, name, spec, conversion in fields:
            parts[-1].append(literal)
            if name or spec or conversion:
                raise broken(file, line, f"`{{{name}}}` is not known; only `{{}}` is put in")
            if name is not None:
                parts.append([])
        parts[-1].append("\n")
    if len(parts) == 1:
        raise broken(file, 1, "has no `{}`")
    return parts


def read_topics(text: str, file: str) -> Piece:
    """The prose of the topic prompt; `{}` is the instruction type."""
    piece = Piece(file)
    prose = STAGE_VARIABLE.join("".join(part) for part in split_fields(text, file))
    piece.put(("templates", "topics"), prose.strip(), 1)
    return piece


def write_topics(constitution: Constitution) -> str:
    """The file that reads back as the template of topics."""
    parts = constitution.templates.topics.split(STAGE_VARIABLE)
    return "{}".join(escape_braces(part) for part in parts) + "\n"


def read_topic_guided(text: str, file: str) -> Piece:
    """The prose before the lists of the instruction prompt, whose titles (`Hints:`) go with the lists."""
    piece = Piece(file)
    prose = "".join(split_fields(text, file)[0]).strip()
    head, _, title = prose.rpartition("\n")
    piece.put(("templates", "topic_guided"), (head if title.endswith(":") else prose).strip(), 1)
    return piece


def write_topic_guided(constitution: Constitution) -> str:
    """The file that reads back as the template of topic-guided instructions."""
    prose = escape_braces(constitution.templates.topic_guided)
    return f"{prose}\n\nHints:\n{{}}\n\nInstructions:\n{{}}\n"


def read_self_instruct(text: str, file: str) -> Piece:
    """The prose of the self-instruct prompt, which has no `{}`."""
    piece = Piece(file)
    piece.put(("templates", "self_instruct"), text.strip(), 1)
    return piece


def write_self_instruct(constitution: Constitution) -> str:
    """The file that reads back as the template of self-instruct."""
    return constitution.templates.self_instruct + "\n"


def escape_braces(text: str) -> str:
    """The text as `str.format` gives it back."""
    return text.replace("{", "{{").replace("}", "}}")
