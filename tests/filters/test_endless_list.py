"""Lists: which lines make one, where it is cut, and when it has no end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.filters.endless_list import cut_list, endless_list, items


def numbered(first: int, last: int) -> str:
    return "".join(f"{number}. Item {number}\n" for number in range(first, last + 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Intro:\n" + numbered(1, 5) + "Outro.", "Intro:\n1. Item 1\n2. Item 2\n3. Item 3"),
        ("- a\n- b\n- c\n- d", "- a\n- b\n- c"),
        ("* a\n\n* b\n\n* c\n\n* d", "* a\n\n* b\n\n* c"),
        ("a) x\nb) x\nc) x\nd) x\n", "a) x\nb) x\nc) x"),
        (
            "1. a\n\nMore on a.\n\n2. b\n\nMore.\n\n3. c\n\nEnd of c.\n\n4. d",
            "1. a\n\nMore on a.\n\n2. b\n\nMore.\n\n3. c\n\nEnd of c.",
        ),
        ("1. a\n   - p\n   - q\n   - r\n   - s\n2. b", "1. a\n   - p\n   - q\n   - r"),
    ],
)
def test_cuts_behind_the_last_item_allowed(text: str, expected: str) -> None:
    assert cut_list(text, 3) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No list at all, 1. not even here 2. nor here.",
        numbered(1, 3) + "Then prose.\n",
        "Pros:\n- a\n- b\nCons:\n- c\n- d\n",
        "1. a\n- p\n- q\n2. b\n- r\n- s\n",
        "First:\n" + numbered(1, 2) + "Second:\n" + numbered(1, 3),
        "```yaml\n- a\n- b\n- c\n- d\n```\n",
        "1990. was not an item.\n-no item\n",
    ],
)
def test_leaves_short_and_separate_lists_alone(text: str) -> None:
    assert cut_list(text, 3) == text


@pytest.mark.parametrize(("count", "accepted"), [(0, True), (3, True), (6, True), (7, False)])
def test_rejects_more_than_twice_as_many(count: int, accepted: bool) -> None:
    verdict = endless_list(numbered(1, count), 3)
    assert (verdict.accepted, verdict.value) == (accepted, count)
    assert accepted or "7 items" in verdict.reason


@given(
    st.one_of(st.text(), st.lists(st.sampled_from(["- a\n", "  - b\n", "1. c\n", "2. d\n", "x\n", "\n"])).map("".join))
)
def test_the_cut_is_an_idempotent_prefix_of_short_lists(text: str) -> None:
    cut = cut_list(text, 3)
    assert text.startswith(cut)
    assert cut_list(cut, 3) == cut
    assert max((item.rank for item in items(cut)), default=0) <= 3
