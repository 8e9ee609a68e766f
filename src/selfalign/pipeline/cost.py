"""What a run cost, in words: tokens and time, and money where the recipe has a price."""

from __future__ import annotations

from collections.abc import Iterable

from selfalign.pipeline.manifest import StageState
from selfalign.records import Tokens


def tokens_of(states: Iterable[StageState]) -> Tokens:
    """All tokens of the stages."""
    return sum((state.tokens for state in states), Tokens())


def in_words(tokens: Tokens, cost: float | None, currency: str) -> str:
    """`436,433 prompt and 13,960 new tokens, 1.20 USD`."""
    words = f"{tokens.prompt:,} prompt and {tokens.completion:,} new tokens"
    return words if cost is None else f"{words}, {cost:,.2f} {currency}"


def span(seconds: float | None) -> str:
    """`2 h 05 min`, `4 min 10 s`, `9 s`; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
