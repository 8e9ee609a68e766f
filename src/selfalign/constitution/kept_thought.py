"""A thought that stands in an answer: how a model that was trained to think in the open writes it.

In the tags that reasoning models have settled on, which servers and chat pages know how to fold. They are text: no new
tokens. Principles engrave prunes thoughts away (the paper's way); `keep_thoughts` keeps them (deliberative alignment,
arXiv 2412.16339).
"""

from __future__ import annotations

from typing import NamedTuple

OPEN, CLOSE = "<think>", "</think>"


class Thinking(NamedTuple):
    """An answer's thought, empty where it has none, and the rest of it, empty where the thought does not end."""

    thought: str
    reply: str


def with_thought(thought: str, reply: str) -> str:
    """The answer that a model learns to write."""
    return f"{OPEN}\n{thought.strip()}\n{CLOSE}\n\n{reply}" if thought.strip() else reply


def split_thought(text: str) -> Thinking:
    """The inverse; an answer that does not begin with a thought is left as it is."""
    if not text.lstrip().startswith(OPEN):
        return Thinking("", text)
    thought, _, reply = text.lstrip().removeprefix(OPEN).partition(CLOSE)
    return Thinking(thought.strip(), reply.strip())
