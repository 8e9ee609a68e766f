"""Lists that do not end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from selfalign.records import Verdict

ITEM = re.compile(r"(?P<indent>[ \t]*)(?:(?P<number>\d{1,3})[.)]|(?P<letter>[A-Za-z])[.)]|[-*•+–])[ \t]+\S")
FENCE = "```"


class Place(NamedTuple):
    """Which list an item belongs to: its indentation in characters, and how it is marked."""

    indent: int
    kind: str


class Item(NamedTuple):
    """An item of a list: where its line begins, and the how-manieth of its list it is, from 1."""

    at: int
    rank: int


def endless_list(text: str, max_items: int) -> Verdict:
    """Rejects a list of more than twice `max_items` items: the model was counting, not answering. Value: items."""
    longest = max((item.rank for item in items(text)), default=0)
    if longest > 2 * max_items:
        return Verdict.reject("endless_list", f"a list of {longest} items, most allowed {2 * max_items}", longest)
    return Verdict.accept(longest)


def cut_list(text: str, max_items: int) -> str:
    """The text up to the end of item `max_items` of the first list that is longer; what follows that list goes too."""
    cut = next((item.at for item in items(text) if item.rank > max_items), None)
    return text if cut is None else text[:cut].rstrip()


def items(text: str) -> Iterator[Item]:
    """The items of all lists in a text, outside fenced code.

    Lists are told apart by indentation and marks. An enumeration goes on behind other text as long as its numbers rise;
    bullets end with the next line of text that is not indented deeper than they are.
    """
    ranks: dict[Place, int] = {}
    marks: dict[Place, int] = {}
    for at, line in prose_lines(text):
        match = ITEM.match(line)
        indent = len(line) - len(line.lstrip())
        if not match:
            close(ranks, indent, bullets_only=True)
            continue
        place, mark = read_mark(match)
        close(ranks, indent + 1, bullets_only=False)
        if place.kind != "bullet":
            close(ranks, indent, bullets_only=True)
            if mark <= marks.get(place, -1):
                ranks.pop(place, None)
        marks[place] = mark
        ranks[place] = ranks.get(place, 0) + 1
        yield Item(at, ranks[place])


def read_mark(match: re.Match[str]) -> tuple[Place, int]:
    """The list that an item's mark puts it into, and its number there; the letters count from a; bullets are 0."""
    indent = len(match["indent"])
    if match["number"]:
        return Place(indent, "number"), int(match["number"])
    if match["letter"]:
        return Place(indent, "letter"), ord(match["letter"].lower())
    return Place(indent, "bullet"), 0


def close(ranks: dict[Place, int], indent: int, *, bullets_only: bool) -> None:
    """End the lists that stand at `indent` or deeper."""
    for place in [place for place in ranks if place.indent >= indent and (place.kind == "bullet" or not bullets_only)]:
        del ranks[place]


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Offset and text of each line that is neither blank nor fenced code."""
    at, fenced = 0, False
    for line in text.split("\n"):
        if line.lstrip().startswith(FENCE):
            fenced = not fenced
        elif line.strip() and not fenced:
            yield at, line
        at += len(line) + 1
