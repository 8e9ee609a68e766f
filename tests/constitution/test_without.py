"""A constitution without one part reads like one that never had it."""

from __future__ import annotations

import pytest

from selfalign.constitution.check import examine
from selfalign.constitution.loading import load_constitution, to_yaml
from selfalign.constitution.rendering import responses_prefix
from selfalign.constitution.schema import Constitution
from selfalign.constitution.without import without_exemplar, without_principle, without_type
from selfalign.errors import UserError
from tests.constitution.small import SMALL
from tests.support.runs import small_constitution


@pytest.fixture(scope="module")
def whole() -> Constitution:
    return load_constitution("dromedary")


def test_neither_the_principle_nor_its_citations_are_left(whole: Constitution) -> None:
    changed = without_principle(whole, "9")
    assert [principle.number for principle in changed.principles] == [n for n in range(1, 17) if n != 9]
    thought = next(e for e in changed.exemplars if e.name == "harbour-cafe").turns[0].thought
    assert thought.startswith("Principles 7 (candor) and 12 (dated knowledge), because a private person's life")
    assert "(static)" not in responses_prefix(changed)
    assert len(changed.exemplars) == len(whole.exemplars)


@pytest.mark.parametrize("number", ["1", "16"])
def test_what_is_left_passes_the_check_of_constitutions(whole: Constitution, number: str) -> None:
    changed = without_principle(whole, number)
    assert [fault for fault in examine(to_yaml(changed)).faults if fault.severity == "error"] == []


def test_a_principle_goes_by_its_name_too(whole: Constitution) -> None:
    assert without_principle(whole, "Candor") == without_principle(whole, "7")


def test_an_exemplar_ends_before_a_turn_that_cites_nothing_else() -> None:
    kitchen = """\
  - name: kitchen
    turns:
      - user: Salt or sugar?
        thought: 1 (ethical) and 2 (balanced & fair) say so.
        response: Salt.
      - user: Why?
        thought: Only 2 (balanced & fair) says so.
        response: Taste.
"""
    changed = without_principle(small_constitution(SMALL.replace("exemplars:\n", "exemplars:\n" + kitchen, 1)), "2")
    (exemplar,) = changed.exemplars
    assert [turn.thought for turn in exemplar.turns] == ["1 (ethical) say so."]


def test_an_exemplar_or_a_type_goes_whatever_the_case_of_its_name(whole: Constitution) -> None:
    name = whole.exemplars[1].name
    assert without_exemplar(whole, name.upper()).exemplars == (whole.exemplars[0], *whole.exemplars[2:])
    dropped = whole.instruction_types[0]
    assert without_type(whole, f" {dropped.name} ").instruction_types == whole.instruction_types[1:]


def test_a_part_that_there_is_not_is_told_with_those_that_there_are() -> None:
    small = small_constitution()
    with pytest.raises(UserError, match="no principle '7'") as principle:
        without_principle(small, "7")
    assert principle.value.hint == "name one of: 1 (ethical), 2 (balanced & fair)"
    with pytest.raises(UserError, match="no exemplar 'coffee'") as exemplar:
        without_exemplar(small, "coffee")
    assert exemplar.value.hint == "name one of: tea"
    with pytest.raises(UserError, match="no instruction type 'taxes'") as kind:
        without_type(small, "taxes")
    assert "sums" in kind.value.hint


def test_the_last_of_its_kind_stays() -> None:
    small = small_constitution()
    with pytest.raises(UserError, match="tea is the only exemplar"):
        without_exemplar(small, "tea")
    with pytest.raises(UserError, match="no exemplar of small would be left without principle 2"):
        without_principle(small, "2")
