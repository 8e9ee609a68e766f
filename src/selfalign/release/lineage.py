"""Under which licence each part of a data set stands: a row has that of what it was made from."""

from __future__ import annotations

from typing import NamedTuple

from selfalign.release.dataset import Data
from selfalign.release.facts import Facts

UNSTATED = "none is stated: find out before you publish"


class Part(NamedTuple):
    """A part of the rows: what it is, how many rows it is of, what it was made from, the licence, and who says so."""

    what: str
    rows: int
    source: str
    licence: str
    stated: str


def lineage(facts: Facts, data: Data) -> list[Part]:
    """Generated rows first, then what humans wrote."""
    human = sum(split.identity_rows for split in data.splits)
    clone = sum(split.rows - split.identity_rows for split in data.splits if split.config == "clone")
    base, constitution = facts.base, facts.constitution
    parts = [
        Part("generated rows", data.rows - human, base.id, base.licence.shown, base.licence.source),
        Part("identity rows", human, f"constitution `{constitution.name}`", *stated(constitution.licence)),
        Part("system turns", clone, f"a style of constitution `{constitution.name}`", *stated(constitution.licence)),
    ]
    for (source, licence), rows in sorted(data.sources.items()):
        parts.append(Part("instructions from elsewhere", rows, source, licence or UNSTATED, "the recipe"))
    return [part for part in parts if part.rows]


def stated(licence: str) -> tuple[str, str]:
    """The licence of the constitution, and who says so."""
    return (licence, "the constitution says so") if licence else (UNSTATED, "the constitution names no licence")
