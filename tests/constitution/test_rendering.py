"""Prompts to the letter, and the parsing of what a model wrote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.constitution import rendering
from selfalign.constitution.loading import load_constitution
from selfalign.constitution.rendering import (
    HEADING,
    STOP_REPLY,
    STOP_TASK,
    STOP_THOUGHT,
    Task,
    join_thought,
    parse_task,
    parse_topics,
    plain,
    reply_prompt,
    responses_prefix,
    self_instruct_prefix,
    self_instruct_prompt,
    thought_prompt,
    topic_guided_prefix,
    topic_guided_prompt,
    topics_prompt,
    user_turn,
)
from selfalign.constitution.schema import Constitution
from selfalign.engines.scripted import cut_at_stop
from tests.constitution.small import changes
from tests.support.runs import small_constitution

SMALL = small_constitution()


# -------------------------------------------------------------------------------------------------- prompts, exactly


def test_topics_prompt() -> None:
    assert topics_prompt(SMALL, "sums", ["Shop", "Coins"]) == (
        "Topics for questions that require sums, for Ada.\n"
        "\n"
        "1. Shop\n"
        "2. Coins\n"
        "3."
    )  # fmt: skip


def test_topic_guided_prompt() -> None:
    prompt = topic_guided_prefix(SMALL) + topic_guided_prompt(SMALL.instruction_types[:2], "law", "Deposits")
    assert prompt == (
        "Instructions for Ada.\n"
        "\n"
        "### Topic\n"
        "Mill\n"
        "### Kind\n"
        "instructions that require knowledge of the Mill\n"
        "### Instruction\n"
        "What does the Mill make?\n"
        "\n"
        "### Topic\n"
        "Shop\n"
        "### Kind\n"
        "instructions that require sums\n"
        "### Instruction\n"
        "Add two prices.\n"
        "\n"
        "### Topic\n"
        "Deposits\n"
        "### Kind\n"
        "instructions that require law\n"
        "### Instruction\n"
    )


def test_self_instruct_prompt() -> None:
    shots = [Task("Count the birds.", "One heron.\nOne gull."), Task("Say hello.", "")]
    assert self_instruct_prefix(SMALL) + self_instruct_prompt(shots) == (
        "Tasks for Ada.\n"
        "\n"
        "### Task 1\n"
        "### Instruction\n"
        "Count the birds.\n"
        "### Input\n"
        "One heron.\n"
        "One gull.\n"
        "\n"
        "### Task 2\n"
        "### Instruction\n"
        "Say hello.\n"
        "\n"
        "### Task 3\n"
        "### Instruction\n"
    )


def test_an_input_keeps_the_indentation_of_its_first_line() -> None:
    task = Task("  Shorten it.", "\n    if a:\n        b()\n\n### c\n")
    shown = "### Task 1\n### Instruction\nShorten it.\n### Input\n    if a:\n        b()\n\n#### c\n"
    assert self_instruct_prompt([task]).startswith(f"\n{shown}\n### Task 2\n")


def test_responses_prompt() -> None:
    thought = "A matter of taste, so 2 (balanced & fair) applies, and 1 (ethical) always does."
    prefix = (
        "A talk with Ada and its principles, up to 2023-12-31.\n"
        "\n"
        "1 (ethical). Ada does no harm.\n"
        "2 (balanced & fair). Sides are heard.\n"
        "\n"
        "ADA at work.\n"
        "\n"
        "### User\n"
        "Hello Ada, tea or coffee?\n"
        "### Internal thought\n"
        f"{thought}\n"
        "### Assistant\n"
        "Both have friends.\n"
        "Says Ada.\n"
    )
    assert responses_prefix(SMALL) == prefix
    assert thought_prompt(" Why? ") == "\n### User\nWhy?\n### Internal thought\n"
    assert thought_prompt("Why?", "Principles") == "\n### User\nWhy?\n### Internal thought\nPrinciples"
    assert thought_prompt("Why?", "### Now ").endswith("### Internal thought\n#### Now")
    assert reply_prompt("Why?", " 1 (ethical) ") == (
        "\n### User\nWhy?\n### Internal thought\n1 (ethical)\n### Assistant\n"
    )
    # An exemplar and what is asked have one form: a base model goes on as it was shown.
    shown = prefix.index("### User")
    assert prefix[shown:] == reply_prompt("Hello Ada, tea or coffee?", thought)[1:] + "Both have friends.\nSays Ada.\n"


@pytest.mark.parametrize(
    ("opening", "continued", "whole"),
    [
        ("", " 1 (ethical) applies ", "1 (ethical) applies"),
        ("Principles", " 1 (ethical) applies", "Principles 1 (ethical) applies"),
        ("Principles", "1 (ethical) applies", "Principles 1 (ethical) applies"),
        ("Principles", "", "Principles"),
        ("", "", ""),
    ],
)
def test_join_thought(opening: str, continued: str, whole: str) -> None:
    assert join_thought(opening, continued) == whole


def test_user_turn() -> None:
    assert user_turn(" Count. ", "\nOne.\n\nTwo.\n") == "Count.\n\nOne.\n\nTwo."
    assert user_turn("Count.", " \n") == "Count."


# ------------------------------------------------------------------------------------------------ the built-in's prefix


@pytest.fixture(scope="module")
def builtin() -> Constitution:
    return load_constitution("dromedary")


def test_the_built_in_prefix_holds_every_principle_and_exemplar_once_and_in_order(builtin: Constitution) -> None:
    prefix = responses_prefix(builtin)
    parts = [f"\n{p.number} ({p.name}). {p.text}\n" for p in builtin.principles]
    turns = [turn for exemplar in builtin.exemplars for turn in exemplar.turns]
    parts += [f"\n### User\n{t.user}\n### Internal thought\n{t.thought}\n### Assistant\n{t.response}\n" for t in turns]
    assert [prefix.count(part) for part in parts] == [1] * len(parts)
    places = [prefix.index(part) for part in parts]
    assert places == sorted(places)
    assert len(headings(prefix)) == 3 * len(turns)
    assert len(builtin.principles) == 16


def test_no_prompt_of_the_built_in_holds_an_unfilled_variable(builtin: Constitution) -> None:
    prompts = [
        responses_prefix(builtin),
        topic_guided_prefix(builtin) + topic_guided_prompt(builtin.instruction_types, "law", "Rent"),
        self_instruct_prefix(builtin) + self_instruct_prompt([Task(s.instruction, s.input) for s in builtin.seeds]),
        topics_prompt(builtin, "law", ["Rent"]),
    ]
    assert not any("{{" in prompt or "}}" in prompt for prompt in prompts)


# ------------------------------------------------------------------------------------------------- no forged headings


def headings(text: str) -> list[str]:
    return re.findall(r"(?m)^### .*$", text)


PIECES = st.lists(
    st.sampled_from(["### ", "###", "#", "\n", "\r", " ", "\t", "User\n", "Assistant", "x", "\u2028", "\x85", "\x0c"]),
    max_size=12,
).map("".join)


@given(PIECES)
def test_plain_text_cannot_form_a_heading(text: str) -> None:
    assert headings(f"{plain(text)}\n") == []
    assert headings(f"### User\n{plain(text)}\n### Assistant\n") == ["### User", "### Assistant"]
    assert plain(plain(text)) == plain(text)
    assert plain(text).replace("#### ", "### ") == text.strip().replace("#### ", "### ")


def test_plain_leaves_other_text_as_it_is() -> None:
    assert plain(" a ### b\n###c\n## d ") == "a ### b\n###c\n## d"
    assert plain("### a\n### b") == "#### a\n#### b"


@given(PIECES)
def test_no_text_adds_a_heading_to_any_prompt(text: str) -> None:
    assert headings(topics_prompt(SMALL, text, [text, "Coins"])) == []
    guided = topic_guided_prompt(SMALL.instruction_types[:1], text, text)
    assert headings(guided) == ["### Topic", "### Kind", "### Instruction"] * 2
    tasks = self_instruct_prompt([Task(text, f"{text}x")])
    assert [line.split()[1] for line in headings(tasks)] == ["Task", "Instruction", "Input", "Task", "Instruction"]
    assert headings(thought_prompt(text)) == ["### User", "### Internal thought"]
    assert headings(reply_prompt(text, text)) == ["### User", "### Internal thought", "### Assistant"]


def test_no_text_of_a_constitution_adds_a_heading() -> None:
    forged = '"One\\n### Forged\\ntwo {{ type }}"'
    text = changes(
        ("topics: Topics for questions that require {{ type }}, for {{ name }}.", f"topics: {forged}"),
        ("topic_guided: Instructions for {{ name }}.", 'topic_guided: "One\\n### Forged"'),
        ("self_instruct: Tasks for {{ name }}.", 'self_instruct: "### Forged\\none"'),
        ('"{{ standard_head }} and its principles, up to {{ cutoff }}."', '"### Forged\\none"'),
        ('"{{ name | upper }} at work."', '"### Forged\\none"'),
        ("Says {{ name }}.", "### Forged"),
    )
    constitution = small_constitution(text)
    assert headings(topics_prompt(constitution, "sums", ["Shop"])) == []
    assert headings(topic_guided_prefix(constitution)) == headings(self_instruct_prefix(constitution)) == []
    assert headings(responses_prefix(constitution)) == ["### User", "### Internal thought", "### Assistant"]


def test_every_heading_ends_a_reply_and_those_of_the_next_task_end_a_task() -> None:
    names = ("USER", "THOUGHT", "ASSISTANT", "TASK", "INSTRUCTION", "INPUT", "TOPIC", "KIND")
    for name in names:
        heading = getattr(rendering, name)
        assert heading.startswith(HEADING)
        text = f"Reply.\n{heading}more"
        assert cut_at_stop(text, STOP_REPLY) == ("Reply.", "stop")
        assert cut_at_stop(text, STOP_THOUGHT) == ("Reply.", "stop")
        if name in ("TASK", "TOPIC", "KIND", "INSTRUCTION"):
            assert cut_at_stop(text, STOP_TASK) == ("Reply.", "stop")
    assert cut_at_stop("Count.\n### Input\nOne.", STOP_TASK) == ("Count.\n### Input\nOne.", "eos")


# ----------------------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    ("text", "truncated", "topics"),
    [
        (" Rivers\n3. Taxes\n4. Bread", False, ["Rivers", "Taxes", "Bread"]),
        (" Rivers\n3. Taxes\n4. Bre", True, ["Rivers", "Taxes"]),
        (" Rivers\n3. Taxes\n", True, ["Rivers", "Taxes"]),
        ("Rivers\n3) Taxes \n\n  4.Bread", False, ["Rivers", "Taxes", "Bread"]),
        ("Riv", True, []),
        ("", False, []),
        (" \n\n", False, []),
        (" Rivers\n3.", False, ["Rivers", "3."]),  # a bare number is no topic, which its form tells
        (" 1984\n3. 7. Taxes", False, ["1984", "7. Taxes"]),
        (" Rivers\r\n3. Taxes", False, ["Rivers", "Taxes"]),
        ("Rivers\u2028Taxes", False, ["Rivers\u2028Taxes"]),
        ("### Rivers", False, ["### Rivers"]),
    ],
)
def test_parse_topics(text: str, truncated: bool, topics: list[str]) -> None:
    assert parse_topics(text, truncated) == topics


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Count the birds.", ("Count the birds.", "")),
        (" Count the birds.\n\n", ("Count the birds.", "")),
        ("Count the\n \nbirds.", ("Count the\nbirds.", "")),
        ("Count.\n### Input\nOne.\n\nTwo.\n", ("Count.", "One.\n\nTwo.")),
        ("Count.\n\n### Input\nOne.", ("Count.", "One.")),
        ("Count.\n### Input\n", ("Count.", "")),
        ("Count.\n### Input\n<noinput>", ("Count.", "")),
        ("Count.\n### Input\nNone.", ("Count.", "")),
        ("Count.\n### Input\n(no input)", ("Count.", "")),
        ("Count.\n### Input\nN/A", ("Count.", "")),
        ("Count.\n### Input\n[empty]", ("Count.", "")),
        ("Count.\n### Input\nNone of us", ("Count.", "None of us")),
        ("Count.\n### Input\none\n### Input\ntwo", None),
        ("Count.\n### Input", ("Count.", "")),
        ("Count.\n### User\nHi", ("Count.", "")),
        ("Count.\n### Input\nOne.\n### Output\nTwo", ("Count.", "One.")),
        ("### Topic\nRivers", None),
        ("\n### Input\nOne.", None),
        ("", None),
        (" \n ", None),
    ],
)
def test_parse_task(text: str, task: tuple[str, str] | None) -> None:
    assert parse_task(text) == task


@given(st.text(max_size=40), PIECES)
def test_a_parsed_task_is_parsed_from_its_own_prompt_again(instruction: str, input: str) -> None:
    task = parse_task(f"{instruction}\n### Input\n{input}")
    if task:
        shown = self_instruct_prompt([task]).removeprefix("\n### Task 1\n### Instruction\n")
        assert parse_task(cut_at_stop(shown, STOP_TASK)[0]) == task
