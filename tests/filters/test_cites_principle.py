"""Citations: what counts as one, and what only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.cites_principle import cited_principles, cites_principle, without_citations

NAMES = {
    1: "ethical",
    3: "helpful",
    6: "multi-aspect",
    7: "candor",
    12: "dated knowledge",
    14: "balanced & informative perspectives",
    120: "brevity",
}

CASES: list[tuple[str, tuple[int, ...]]] = [
    ("I should apply 7 (candor) here.", (7,)),
    ("7 candor applies.", (7,)),
    ("12 Dated Knowledge, 7 candor", (7, 12)),
    ("By principle 7 I must admit it.", (7,)),
    ("rule 7 (candor)", (7,)),
    ("PRINCIPLES 3 AND 7", (3, 7)),
    ("Principles 3 (helpful), 7", (3, 7)),
    ("Principles 3 helpful, 7 and 12 (dated knowledge) apply.", (3, 7, 12)),
    ("rules 1, 3, and 7", (1, 3, 7)),
    ("Principle #7 and principle no. 3", (3, 7)),
    ("7 (Candor), 7 (candor), 3 (HELPFUL)", (3, 7)),
    ("6 (multi aspect) and 14 (balanced & informative perspectives)", (6, 14)),
    ("(7 (candor))", (7,)),
    ("3 (candor)", (7,)),
    ("rule 3 (candor)", (7,)),
    ("99 (candor)", (7,)),
    ("7 (honesty)", ()),
    ("principle 7 (honesty)", ()),
    ("principle 42", ()),
    ("5 (reasoning)", ()),
    ("The shop opens at 7 pm.", ()),
    ("7 days, 3 weeks", ()),
    ("7 helpful tips", ()),
    ("It costs 3.7 (candor)", ()),
    ("principle 3, 7 days from now", (3,)),
    ("principle 7.5", ()),
    ("17 candor", ()),
    ("120 (brevity), principle 120, 120 brevity", (120,)),
    ("principles 3 and 120", (3, 120)),
    ("principle 1200", ()),
    ("7 candored", ()),
    ("a matter of principle", ()),
    ("", ()),
]


@pytest.mark.parametrize(("thought", "expected"), CASES)
def test_citations(thought: str, expected: tuple[int, ...]) -> None:
    assert cited_principles(thought, NAMES) == expected
    verdict = cites_principle(thought, NAMES)
    assert verdict.accepted is bool(expected)
    assert verdict.value == len(expected)


def test_without_principles_nothing_is_cited() -> None:
    assert cited_principles("7 (candor), principle 7", {}) == ()


@given(st.text(alphabet="37 ,()andrulescandorprinciple#."))
def test_cites_only_known_numbers_sorted(thought: str) -> None:
    found = cited_principles(thought, NAMES)
    assert list(found) == sorted(set(found))
    assert set(found) <= set(NAMES)


def test_without_citations_leaves_what_is_thought_of_the_matter() -> None:
    thought = "Principles 7 (candor) and 14 (balanced & informative perspectives): 3 friends ask."
    assert without_citations(thought) == "Principles  and : 3 friends ask."
