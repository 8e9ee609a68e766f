"""A conversation that is longer than the context: its oldest turns are left out, its style never is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from selfalign.chat.server.models import Prompt, ServedModel, split_system
from selfalign.errors import UserError
from selfalign.records import Message

ANSWER_SHARE = 4
"""An answer has at least a quarter of the context, where it may be that long."""

Count = Callable[[Prompt], int]
"""Tokens of a prompt."""


class Fitted(NamedTuple):
    """The messages that the model reads, and how many of the oldest were left out."""

    messages: list[Message]
    dropped: int


class TooLong(UserError):
    """The last turn alone does not fit."""


def fit(model: ServedModel, messages: Sequence[Message], context_length: int, max_tokens: int, count: Count) -> Fitted:
    """Drop pairs of turns, the oldest first, until the prompt leaves room for the answer (and the thought before it).

    TooLong where the last turn alone does not even fit the context. A turn has a token at least, so no more turns
    than the context has tokens are ever looked at.
    """
    room = min(max_tokens, context_length // ANSWER_SHARE)
    system, turns = split_system(messages)
    pairs = (len(turns) - 1) // 2
    drop = smallest(
        max(0, pairs - context_length // 2),
        pairs,
        lambda dropped: length(model, system, turns[2 * dropped :], count) + room <= context_length,
    )
    kept = [*system, *turns[2 * drop :]]
    used = length(model, system, turns[2 * drop :], count)
    if used >= context_length:
        raise TooLong(
            f"the last turn has {used} tokens with what stands before it, the context holds {context_length}",
            "shorten the message",
        )
    return Fitted(kept, 2 * drop)


def length(model: ServedModel, system: list[Message], turns: list[Message], count: Count) -> int:
    """Tokens of the prompt that these make."""
    messages = [*system, *turns]
    return count(model.thought_prompt(messages) if model.principled else model.answer_prompt(messages))


def smallest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number from `low` to `high` that holds, `high` where none does; what holds for n does for n + 1.

    The lowest is tried first: most conversations fit.
    """
    if low < high and holds(low):
        return low
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
