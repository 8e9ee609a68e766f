"""A constitution without one of its parts: a principle, an exemplar, or an instruction type."""

from __future__ import annotations

import re
from collections.abc import Sequence

from selfalign.constitution.check import CITATION
from selfalign.constitution.schema import Constitution, Exemplar, InstructionType, Principle, Turn
from selfalign.errors import UserError

SEPARATOR = r"(?:,? and |, )"
CITATIONS = re.compile(rf"{CITATION.pattern}(?:{SEPARATOR}{CITATION.pattern})*")
"""A list such as `7 (candor), 9 (static) and 12 (dated knowledge)`."""


def find_principle(constitution: Constitution, named: str) -> Principle:
    """The principle of that number or name; a UserError that lists them where there is none."""
    for principle in constitution.principles:
        if named.strip().casefold() in (str(principle.number), principle.name.casefold()):
            return principle
    known = ", ".join(f"{principle.number} ({principle.name})" for principle in constitution.principles)
    raise UserError(f"no principle {named!r} in the constitution {constitution.name}", f"name one of: {known}")


def without_principle(constitution: Constitution, named: str) -> Constitution:
    """Neither its line nor its citations are left.

    An exemplar ends before a turn whose thought cites nothing beside it, and one of which no turn is left goes. What
    the other exemplars show of the principle in their own words stays: drop the exemplar to be rid of that.
    """
    dropped = find_principle(constitution, named)
    principles = tuple(principle for principle in constitution.principles if principle is not dropped)
    exemplars = tuple(filter(None, (uncited(exemplar, dropped) for exemplar in constitution.exemplars)))
    if not principles:
        raise UserError(f"{named} is the only principle of {constitution.name}", "drop another part")
    if not exemplars:
        raise UserError(f"no exemplar of {constitution.name} would be left without principle {named}", "drop another")
    return constitution.model_copy(update={"principles": principles, "exemplars": exemplars})


def uncited(exemplar: Exemplar, dropped: Principle) -> Exemplar | None:
    """The exemplar up to a turn that cites nothing beside a principle, without its citations; None if that is none."""
    turns: list[Turn] = []
    for turn in exemplar.turns:
        if not all(relisted(found[0], dropped.number) for found in CITATIONS.finditer(turn.thought)):
            break
        thought = CITATIONS.sub(lambda found: relisted(found[0], dropped.number), turn.thought)
        turns.append(turn.model_copy(update={"thought": thought}))
    return exemplar.model_copy(update={"turns": tuple(turns)}) if turns else None


def relisted(citations: str, dropped: int) -> str:
    """A list of citations without those of a number, in the words of a list again."""
    kept = [f"{number} ({name})" for number, name in CITATION.findall(citations) if int(number) != dropped]
    return " and ".join(filter(None, (", ".join(kept[:-1]), *kept[-1:])))


def find_exemplar(constitution: Constitution, named: str) -> Exemplar:
    """The exemplar of that name."""
    names = [exemplar.name for exemplar in constitution.exemplars]
    return constitution.exemplars[names.index(known(named, names, "exemplar"))]


def without_exemplar(constitution: Constitution, named: str) -> Constitution:
    """One exemplar fewer."""
    dropped = find_exemplar(constitution, named)
    kept = tuple(exemplar for exemplar in constitution.exemplars if exemplar is not dropped)
    if not kept:
        raise UserError(f"{named} is the only exemplar of {constitution.name}", "drop another part")
    return constitution.model_copy(update={"exemplars": kept})


def find_type(constitution: Constitution, named: str) -> InstructionType:
    """The instruction type of that name."""
    names = [kind.name for kind in constitution.instruction_types]
    return constitution.instruction_types[names.index(known(named, names, "instruction type"))]


def without_type(constitution: Constitution, named: str) -> Constitution:
    """One instruction type fewer."""
    dropped = find_type(constitution, named)
    kept = tuple(kind for kind in constitution.instruction_types if kind is not dropped)
    if not kept:
        raise UserError(f"{named} is the only instruction type of {constitution.name}", "drop another part")
    return constitution.model_copy(update={"instruction_types": kept})


def known(named: str, names: Sequence[str], what: str) -> str:
    """The one of `names` that is meant, whatever its case; a UserError that lists them where there is none."""
    for name in names:
        if name.casefold() == named.strip().casefold():
            return name
    raise UserError(f"no {what} {named!r}", f"name one of: {'; '.join(names)}")
