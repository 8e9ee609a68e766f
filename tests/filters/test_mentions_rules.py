"""mentions_rules: talk of the rules goes, the words that they happen to use stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.mentions_rules import is_telling, mentions_rules

NAMES = dict(
    enumerate(
        ("ethical", "informative", "helpful", "question assessment", "reasoning", "multi-aspect", "candor",
         "knowledge recitation", "static", "clarification", "numerical sensitivity", "dated knowledge", "step-by-step",
         "balanced & informative perspectives", "creative", "operational"), 1,
    )
)  # fmt: skip

REJECTED = [
    "As 7 (candor) asks, I must say that I do not know.",
    "According to principle 7, I cannot say.",
    "Following principles 12 here, I should warn you.",
    "This falls under rule 7 (candor).",
    "My internal thought is that the user wants help.",
    "That would go against my principles.",
    "My guidelines require that I stay neutral.",
    "My guidelines don't allow that.",
    "A question assessment shows that bats are not blind.",
    "Knowledge recitation: bats are mammals.",
    "With numerical sensitivity in mind, the sum is 4.",
    "Because of my dated knowledge, check this.",
    "Here are balanced and informative perspectives on cars.",
]
ACCEPTED = [
    "Let me be helpful, ethical and creative, and give clear reasoning.",
    "Candor is a virtue. Static electricity needs clarification; it is informative and operational.",
    "The principle of relativity says that the laws are the same for all.",
    "Here is a step-by-step guide. Go step by step.",
    "A multi-aspect view helps.",
    "There are 7 helpful tips below.",
    "The seven principles of HACCP:\n1. Principle 1: Analyse hazards\n**Principle 2:** Find the control points",
    "Under Rule 11 (offside), he is offside.",
    "Rule 12(b)(6) lets a court dismiss.",
    "Rule 1: never talk about it.",
    "The rules require three players, and the guidelines say so.",
    "Principle 42 is not ours.",
    "She is a woman of principle; her internal thoughts race.",
    "Psychology studies internal thought processes.",
    "In chapter 7 (honesty), the author explains.",
    "My rules for a good soup: salt, heat, time.",
    "",
]


@pytest.mark.parametrize("text", REJECTED)
def test_rejects(text: str) -> None:
    verdict = mentions_rules(text, NAMES)
    assert (verdict.accepted, verdict.filter) == (False, "mentions_rules")
    assert verdict.reason


@pytest.mark.parametrize("text", ACCEPTED)
def test_keeps(text: str) -> None:
    assert mentions_rules(text, NAMES).accepted, mentions_rules(text, NAMES).reason


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("dated knowledge", True),
        ("candor", False),
        ("step-by-step", False),
        ("common sense", False),
        ("Common Sense", False),
    ],
)
def test_the_rule_for_telling_names(name: str, telling: bool) -> None:
    assert is_telling(name) is telling


@given(st.text())
def test_judges_any_text(text: str) -> None:
    mentions_rules(text, NAMES)
    mentions_rules(text, {})
