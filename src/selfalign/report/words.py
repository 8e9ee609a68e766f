"""How the report writes numbers and text."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

NOTHING = "–"


def count(value: float | None) -> str:
    """A whole number with thousands separated; a dash for None."""
    return NOTHING if value is None else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with `digits` decimals; a dash for None and for what is no number."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def money(amount: float | None) -> str:
    """Two decimals, or two digits that say something where it is less than a tenth; a dash for None."""
    if amount is None or amount >= 0.1 or amount <= 0:
        return decimal(amount, 2)
    return decimal(amount, 1 - math.floor(math.log10(amount)))


def percent(share: float | None) -> str:
    """A share as a percentage; one decimal where rounding would say 0 or 100 of what is neither."""
    if share is None:
        return NOTHING
    near_an_end = 0 < share < 0.01 or 0.99 < share < 1
    return f"{100 * share:.{1 if near_an_end else 0}f}%"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units that say something."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def date(iso: str) -> str:
    """An ISO time to the minute, with its zone; what is not one is given back."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return iso


def plural(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def listed(parts: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def visible(value: Any) -> Any:
    """Text with what a page cannot hold made visible: control characters as their pictures, lone surrogates as U+FFFD.

    Jinja calls this on everything it prints, before escaping.
    """
    if type(value) is not str:
        return value
    pictured = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: chr(0x2400 + ord(match[0])), value.replace("\r\n", "\n"))
    return re.sub(r"[\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", pictured)
