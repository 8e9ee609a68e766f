"""Internal thoughts that name the principles they apply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from selfalign.records import Verdict

NUMBER = r"(?<!\w)(?<!\d[.:])(?P<number>\d{1,3})"
BRACKETED = re.compile(NUMBER + r"\s*\((?P<name>[^()\n]*)\)")
NAMED = re.compile(r"\b(?:principle|rule)(?P<plural>s?)\s+(?:no\.?\s*|number\s+|#\s*)?(?=\d)", re.IGNORECASE)
ITEM = re.compile(r"(?P<number>\d{1,3})(?!\w|[.:]\d|%)(?:\s*\((?P<name>[^()\n]*)\))?")
SEPARATOR = re.compile(r"\s*(?:,\s*(?:and\s+)?|/|;\s*|&\s*|and\s+)", re.IGNORECASE)


def cites_principle(thought: str, names: Mapping[int, str]) -> Verdict:
    """Rejects a thought that cites none of the principles in `names`. Value: how many it cites."""
    count = len(cited_principles(thought, names))
    return Verdict.accept(count) if count else Verdict.reject("cites_principle", "cites 0 known principles", 0)


def cited_principles(thought: str, names: Mapping[int, str]) -> tuple[int, ...]:
    """The known numbers that a thought cites, sorted, each once.

    A citation is `7 (candor)`, `7 candor`, `principle 7`, `rule 7 (candor)`, `principles 3 and 7` or
    `Principles 3 (helpful), 7`, in any case. A name in brackets decides: where it is exactly another principle's, that
    one counts, where it is nobody's, none. A list goes on after a plural only ("principle 3, 2 days" cites 3).
    """
    found = {*bracketed_citations(thought, names), *plain_citations(thought, names), *listed(thought, names)}
    return tuple(sorted(found))


def without_citations(thought: str) -> str:
    """What a thought says of the matter itself: every `7 (candor)` left out."""
    return BRACKETED.sub("", thought)


def bracketed_citations(text: str, names: Mapping[int, str]) -> Iterator[int]:
    """The principles of every `7 (candor)`."""
    for match in BRACKETED.finditer(text):
        yield from resolve(int(match["number"]), match["name"], names)


def plain_citations(text: str, names: Mapping[int, str]) -> Iterator[int]:
    """The principles of every `7 candor`: number and name must belong together, so "7 helpful tips" cites nothing."""
    for number, name in names.items():
        if plain_citation(number, name).search(text):
            yield number


@cache
def plain_citation(number: int, name: str) -> re.Pattern[str]:
    """Finds `7 candor`. Made once: made for each thought, they took 50 of the 87 microseconds that it takes."""
    return re.compile(rf"(?<!\w)(?<!\d[.:])0?{number}\s+{flexible(name)}(?!\w)", re.IGNORECASE)


def listed(text: str, names: Mapping[int, str]) -> Iterator[int]:
    """The principles behind the word principle or rule, and behind a plural those of the whole list."""
    for start in NAMED.finditer(text):
        item = ITEM.match(text, start.end())
        while item:
            yield from resolve(int(item["number"]), item["name"], names)
            separator = SEPARATOR.match(text, skip_name(text, item, names)) if start["plural"] else None
            item = ITEM.match(text, separator.end()) if separator else None


def skip_name(text: str, item: re.Match[str], names: Mapping[int, str]) -> int:
    """Where the list goes on: behind the item, and behind its name where that stands without brackets."""
    name = names.get(int(item["number"]))
    match = re.compile(r"\s+" + flexible(name) + r"(?!\w)", re.IGNORECASE).match(text, item.end()) if name else None
    return match.end() if match else item.end()


def resolve(number: int, name: str | None, names: Mapping[int, str]) -> Iterator[int]:
    """The principle meant by a number and, where there is one, the name in brackets behind it."""
    if name is None:
        if number in names:
            yield number
        return
    wanted = normal(name)
    if number in names and normal(names[number]) == wanted:
        yield number
    else:
        yield from (known for known, other in names.items() if normal(other) == wanted)


def normal(name: str) -> str:
    """A name without case, hyphens, outer quotes and doubled blanks."""
    return " ".join(name.casefold().replace("-", " ").strip(" \t\"'*").split())


def flexible(name: str) -> str:
    """A pattern that finds a name with blanks or hyphens between its words."""
    return r"[\s-]+".join(re.escape(part) for part in re.split(r"[\s-]+", name.strip()))
