"""What a human wrote, counted."""

from __future__ import annotations

from selfalign.constitution.check import examine
from selfalign.constitution.ledger import Ledger, format_ledger, ledger
from selfalign.constitution.loading import load_constitution
from tests.constitution.small import SMALL, changes


def test_numbers() -> None:
    constitution, _ = examine(SMALL)
    assert constitution is not None
    counted = ledger(constitution).to_dict()
    assert counted["paper"] == {
        "seed instructions": 5,
        "topic seeds": 5,
        "principles": 2,
        "exemplars": 1,
        "total": 13,
    }
    beside = counted["beside"]
    # 2 heads, 2 variables, 3 identity lines, 2 questions, 1 answer, 2 principles of 2, exemplar name, user, thought,
    # 2 response lines, 5 types of 3, 3 styles, 5 templates, 5 seeds, 2 input lines
    assert beside.pop("non-blank lines of all text") == 2 + 2 + 3 + 2 + 1 + 4 + 5 + 15 + 3 + 5 + 5 + 2
    assert beside.pop("words of all text") == sum(len(text.split()) for text in words(constitution.model_dump()))
    assert beside == {
        "exemplar turns": 1,
        "identity questions": 2,
        "identity answers": 1,
        "identity pairs after expansion": 2,
        "styles": 3,
        "template texts": 5,
        "variables": 2,
    }


def test_a_thought_opening_counts_where_there_is_one() -> None:
    heads = '  exemplars: "{{ name | upper }} at work."\n'
    counted = [examine(changes((heads, heads + line)))[0] for line in ("", "  thought_opening: A matter\n")]
    without, opened = (ledger(constitution).beside for constitution in counted if constitution)
    assert (without["template texts"], opened["template texts"]) == (5, 6)
    for name, more in (("non-blank lines of all text", 1), ("words of all text", 2)):
        assert opened[name] - without[name] == more


def words(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in words(item)]
    if isinstance(value, tuple):
        return [text for item in value for text in words(item)]
    return [value] if isinstance(value, str) else []


def test_the_builtin_stays_under_300() -> None:
    counted = ledger(load_constitution("dromedary"))
    assert counted.paper["principles"] == 16
    assert counted.paper["topic seeds"] == 20
    assert counted.paper["total"] < 300


def test_table() -> None:
    shown = format_ledger(Ledger({"seeds": 1299, "total": 1299}, {"words of all text": 12}))
    assert shown.splitlines() == [
        "Human-written lines, counted as the paper does (NOT fewer than 300; the paper: 216)",
        "  seeds              1,299",
        "  total              1,299",
        "",
        "Also written by a human, and not counted by the paper",
        "  words of all text     12",
    ]
