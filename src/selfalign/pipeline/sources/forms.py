"""The forms of rows that instruction data come in, and the first user turn of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

USER = ("human", "user", "prompter")
SYSTEM = ("system",)
TURN_TEXTS = ("value", "content", "markdown", "text")
LIST_KEYS = ("prompt", "instruction", "text", "query", "question")


class Asked(NamedTuple):
    """What a user asked for, and the material that it is about, where that stands apart."""

    instruction: str
    input: str = ""


def conversation(turns: Any) -> Asked | None:
    """The first turn but for a system turn, if it is the user's: what begins with an answer lost its question."""
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return None
    for turn in turns:
        if not isinstance(turn, dict):
            return None
        speaker = str(turn.get("from") or turn.get("role") or "").lower()
        if speaker not in SYSTEM:
            return text_of_turn(turn) if speaker in USER else None
    return None


def text_of_turn(turn: dict[str, Any]) -> Asked | None:
    """Its text; a turn in parts (`[{"type": "text", ...}]`) counts where all of them are text."""
    content = next((turn[key] for key in TURN_TEXTS if turn.get(key)), None)
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "\n".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    return Asked(content) if isinstance(content, str) else None


def asked(row: dict[str, Any], instruction: str, input: str = "") -> Asked | None:
    """The texts under two keys; an input that is nothing is none."""
    text, given = row.get(instruction), row.get(input) if input else ""
    return Asked(text, given if isinstance(given, str) else "") if isinstance(text, str) else None


def from_openassistant(row: dict[str, Any]) -> Asked | None:
    """The root of a message tree: a row of its own without a parent, or `prompt` of a whole tree."""
    tree = row.get("prompt")
    root: dict[str, Any] = tree if isinstance(tree, dict) else row
    is_root = root.get("role") in USER and not root.get("parent_id")
    return asked(root, "text") if is_root and not root.get("deleted") else None


def from_list(row: Any) -> Asked | None:
    """A text, a row with one of the usual keys, or one with a single text."""
    if isinstance(row, str):
        return Asked(row)
    if not isinstance(row, dict):
        return None
    key = next((key for key in LIST_KEYS if isinstance(row.get(key), str)), "")
    texts = [value for value in row.values() if isinstance(value, str)]
    return Asked(row[key]) if key else Asked(texts[0]) if len(texts) == 1 else None


FORMS: dict[str, Callable[[dict[str, Any]], Asked | None]] = {
    "sharegpt": lambda row: conversation(row.get("conversations")),
    "messages": lambda row: conversation(row.get("messages")),
    "openassistant": from_openassistant,
    "openorca": lambda row: asked(row, "question"),
    "dolly": lambda row: asked(row, "instruction", "context"),
    "alpaca": lambda row: asked(row, "instruction", "input"),
    "list": from_list,
}
"""Name -> what gives the first user turn of a row, or None where it has none."""


def form_of(row: Any) -> str:
    """The form that the keys of a row tell of."""
    if not isinstance(row, dict):
        return "list"
    if "conversations" in row or "messages" in row:
        return "sharegpt" if "conversations" in row else "messages"
    if "message_tree_id" in row or isinstance(row.get("prompt"), dict):
        return "openassistant"
    if "instruction" in row:
        return "dolly" if "context" in row else "alpaca"
    return "openorca" if "question" in row and "response" in row else "list"


def first_user_turn(row: Any, form: str) -> Asked | None:
    """What the user of a row asked first. `form` is one of FORMS, or `auto`."""
    name = form_of(row) if form == "auto" else form
    if not isinstance(row, dict) and name != "list":
        return None
    return FORMS[name](row)
