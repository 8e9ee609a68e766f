"""Every kind of fault, with its exact line and path."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign.constitution import check as module
from selfalign.constitution.check import check
from selfalign.constitution.document import Fault
from selfalign.errors import UserError
from tests.constitution.small import SMALL, changes, line_of

BUILTIN = sorted((Path(module.__file__).parent / "builtin").glob("*.yaml"))


def test_small_constitution_is_clean() -> None:
    assert check(SMALL) == []


@pytest.mark.parametrize("path", BUILTIN, ids=lambda path: path.stem)
def test_builtin_is_clean(path: Path) -> None:
    assert [fault.format(path.name) for fault in check(path)] == []


# (what to replace, by what, marker of the faulty line, path, a part of the message)
ERRORS = [
    ("licence: Apache-2.0", "colour: red", "colour: red", "colour", "unknown key `colour`; known here: name, desc"),
    ("    name: ethical\n", "    name: ethical\n    tint: red\n", "tint", "principles[0].tint", "number, name, text"),
    ("    text: Sides are heard.\n", "", "number: 2", "principles[1].text", "missing key `text`"),
    ("  concise: A short talk with {{ name }}.\n", "", "styles:", "styles.concise", "missing key `concise`"),
    ("name: small\n", "", "licence: Apache", "name", "missing key `name`"),
    ("number: 2", "number: two", "number: two", "principles[1].number", "'two' must be a valid integer"),
    ("number: 2", "number: 0", "number: 0", "principles[1].number", "0 must be greater than or equal to 1"),
    (
        '"What does the Mill make?"',
        "7",
        "Mill, ins",
        "instruction_types[0].seed.instruction",
        "7 is not text; put it in",
    ),
    ("  maker: the Mill", "  maker: [the, Mill]", "[the", "identity.maker", "must be text, not a list"),
    ("        - I am {{ name }} of {{ maker }}.", "        - ' '", "' '", "identity.pairs[0].answers[0]", "is empty"),
    ("    turns:\n", "    turns: none\n    rest:\n", "turns: none", "exemplars[0].turns", "must be a list, not text"),
    ("Add one and one.", '"Add\\none."', "Add\\n", "seeds[1].instruction", "must be one line"),
    ("name: balanced & fair", "name: fair (both)", "fair (b", "principles[1].name", "without parentheses"),
    (
        "number: 2",
        "number: 1",
        "number: 1\n    name: balanced",
        "principles[1].number",
        "duplicate 1: the same as principles[0]",
    ),
    ("name: balanced & fair", "name: Ethical", "Ethical", "principles[1].name", "duplicate 'Ethical'"),
    ("  - name: law", "  - name: SUMS", "SUMS", "instruction_types[2].name", "the same as instruction_types[1].name"),
    (
        "Is {{ name }} your name?",
        "who  are YOU?",
        "YOU",
        "identity.pairs[0].questions[1]",
        "the same as identity.pairs[0]",
    ),
    ("Say hello.", "ADD  one and One.", "ADD", "seeds[3]", "duplicate: the same as seeds[1]"),
    ("2 (balanced & fair) applies", "9 (brave) applies", "thought:", "exemplars[0].turns[0].thought", "no principle 9"),
    (
        "2 (balanced & fair) applies",
        "2 (fair) applies",
        "thought:",
        "exemplars[0].turns[0].thought",
        "is `balanced & fair`",
    ),
    ("\n  name: Ada", "\n  name: Ada\n  name: Bob", "Bob", "identity.name", "stands twice, first on line 7"),
    (
        "Says {{ name }}.",
        "Says {{ nam }}.",
        "{{ nam }}",
        "exemplars[0].turns[0].response",
        "unknown variable `nam`; known",
    ),
    (
        "Says {{ name }}.",
        "{% if x %}",
        "{% if x",
        "exemplars[0].turns[0].response",
        "only {{ variable }} is allowed, not {%",
    ),
    (
        "Says {{ name }}.",
        "{# hm #}",
        "{# hm",
        "exemplars[0].turns[0].response",
        "only {{ variable }} is allowed, not {#",
    ),
    ("Says {{ name }}.", "Says {{ name", "{{ name\n", "exemplars[0].turns[0].response", "not a template"),
    ("Says {{ name }}.", "{{ 2 * 3 }}", "{{ 2", "exemplars[0].turns[0].response", "a mul is not allowed"),
    ("Says {{ name }}.", "{{ name | pprint }}", "pprint", "exemplars[0].turns[0].response", "a filter is not allowed"),
    ("Says {{ name }}.", "{{ name.upper() }}", "upper()", "exemplars[0].turns[0].response", "not allowed in {{ }}"),
    ("Instructions for", "Some {{ type }} for", "{{ type }} for", "templates.topic_guided", "unknown variable `type`"),
    (
        "Instructions for",
        "As {{ topics }} for",
        "{{ topics",
        "templates.topic_guided",
        "which only templates.topics may use",
    ),
    ("require {{ type }}", "{{ type | upper }}", "type | upper", "templates.topics", "a filter is not allowed"),
    ("  manner:", "  maker: x\n  manner:", "maker: x", "variables.maker", "cannot name a variable"),
    ("  manner:", "  a-b: x\n  manner:", "a-b: x", "variables.a-b", "cannot name a variable"),
    ("  manner:", "  topics: x\n  manner:", "  topics: x", "variables.topics", "is the name of templates.topics too"),
]


@pytest.mark.parametrize(("old", "new", "marker", "path", "said"), ERRORS)
def test_error_is_told_with_its_line(old: str, new: str, marker: str, path: str, said: str) -> None:
    text = changes((old, new))
    faults = [fault for fault in check(text) if fault.path == path and fault.severity == "error"]
    number = text.count("\n", 0, text.index(marker)) + 1
    assert [fault.line for fault in faults] == [number]
    assert said in faults[0].message


def test_a_thought_that_cites_nothing() -> None:
    text = changes(("2 (balanced & fair) applies", "let us see"), ("1 (ethical) always does", "more"))
    place = line_of(text, "thought:")
    first, *rest = [fault for fault in check(text) if fault.severity == "error"]
    assert (first.line, first.path, rest) == (place, "exemplars[0].turns[0].thought", [])
    assert first.message.startswith("cites no principle")


def test_a_thought_opening_is_one_line_or_nothing() -> None:
    heads = '  exemplars: "{{ name | upper }} at work."\n'
    assert check(changes((heads, f'{heads}  thought_opening: ""\n'))) == []
    text = changes((heads, f'{heads}  thought_opening: "A matter\\nof taste"\n'))
    faults = [fault for fault in check(text) if fault.path == "templates.thought_opening"]
    assert faults == [Fault(line_of(text, "thought_opening"), "templates.thought_opening", "must be one line")]


def test_a_principle_that_nobody_cites_is_a_warning() -> None:
    text = changes(("2 (balanced & fair) applies", "fine"))
    message = "no exemplar cites principle 2"
    assert check(text) == [Fault(line_of(text, "number: 2"), "principles[1]", message, "warning")]


def test_too_few_seeds_is_a_warning() -> None:
    text = changes(("  - instruction: Say hello.\n", ""))
    message = "4 here, but a prompt shows 5 of them"
    assert check(text) == [Fault(line_of(text, "seeds:"), "seeds", message, "warning")]


def test_topics_without_their_type_is_a_warning() -> None:
    text = changes(("that require {{ type }}", ""))
    assert [(fault.path, fault.severity) for fault in check(text)] == [("templates.topics", "warning")]


def test_a_delimiter_is_a_warning_on_its_own_line() -> None:
    text = changes(
        ("          Says {{ name }}.", "          one\n          ### User"), ("      done", "      ### done")
    )
    faults = check(text)
    assert [(fault.line, fault.path) for fault in faults] == [
        (line_of(text, "### User"), "exemplars[0].turns[0].response"),
        (line_of(text, "### done"), "seeds[0].input"),
    ]
    assert {fault.severity for fault in faults} == {"warning"}


def test_a_cycle_shows_itself_once() -> None:
    text = changes(
        ("  manner:", "  alpha: x {{ exemplars }}\n  manner:"), ("{{ name | upper }} at work", "{{ alpha }} again")
    )
    (fault,) = check(text)
    assert (fault.line, fault.path) == (line_of(text, "alpha:"), "variables.alpha")
    assert fault.message.endswith("circle: alpha -> exemplars -> alpha")


def test_a_text_that_uses_itself() -> None:
    text = changes(("  manner:", "  alpha: x {{ alpha }}\n  manner:"))
    (fault,) = check(text)
    assert fault.line == line_of(text, "alpha:")
    assert fault.message.endswith("circle: alpha -> alpha")


def test_all_faults_at_once_in_order_of_lines() -> None:
    text = changes(
        ("licence: Apache-2.0", "license: Apache-2.0"),
        ("{{ name }} does no harm.", "{{ nobody }} does no harm."),
        ("1 (ethical) always", "3 (kind) always"),
        ('"Why blue?"', "''"),
        ("  self_instruct: Tasks for {{ name }}.\n", ""),
        ("Name a river.", "say HELLO."),
        ("Draw with words.", "[draw]"),
    )
    assert [(fault.line, fault.path) for fault in check(text) if fault.severity == "error"] == [
        (2, "license"),
        (line_of(text, "nobody"), "principles[0].text"),
        (line_of(text, "thought:"), "exemplars[0].turns[0].thought"),
        (line_of(text, "topic: Paint"), "instruction_types[3].seed.instruction"),
        (line_of(text, "templates:"), "templates.self_instruct"),
        (line_of(text, "Say hello."), "seeds[3]"),
        (line_of(text, "[draw]"), "seeds[4].instruction"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1,\nc: 2\n", 3, "while parsing a flow sequence from line 2"),
        ("a: 1\nb: {{ name }} is here\n", 2, "begins with {{ needs quotes"),
        ("a: 1\nb: \x07\n", 2, "special characters"),
        ("", 1, "a mapping of keys"),
        ("- a\n", 1, "a mapping of keys"),
        ("a: &x 1\nb: *x\n", 2, "aliases are not allowed"),
        ("a: &x\n  - *x\n", 2, "aliases are not allowed"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("a: !!bool perhaps\n", 1, "not YAML that can be read"),
        ("a: " + "[" * 3000, 1, "not YAML"),
    ],
)
def test_what_is_no_yaml_mapping_is_one_fault(text: str, line: int, said: str) -> None:
    (fault,) = check(text)
    assert (fault.line, fault.path, fault.severity) == (line, "", "error")
    assert said in fault.message


@pytest.mark.parametrize(
    "text", ["1: 2", "null: 3", "seeds: 5\nprinciples: {a: 1}\nidentity: [1]", "variables: {1: a}"]
)
def test_odd_mappings_have_faults_and_no_traceback(text: str) -> None:
    assert any(fault.severity == "error" for fault in check(text))


@pytest.mark.parametrize("text", ["{{ " + "(" * 5000 + " }}", "{{ " + "9" * 5000 + " }}", "{{ name | trim(3) }}"])
def test_hostile_templates_have_faults_and_no_traceback(text: str) -> None:
    (fault,) = check(changes(("Says {{ name }}.", text)))
    assert fault.path == "exemplars[0].turns[0].response"


def test_dates_and_numbers_in_quotes_are_text() -> None:
    assert check(changes(("2023-12-31", "'2023'"))) == []


def test_a_path_is_read(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL, encoding="utf-8")
    assert check(file) == []
    file.write_bytes(b"name: \xff\n")
    with pytest.raises(UserError, match="not UTF-8 text"):
        check(file)
    with pytest.raises(UserError, match="cannot read"):
        check(tmp_path / "none.yaml")


def test_a_fault_reads_like_a_compilers() -> None:
    assert Fault(3, "seeds[0]", "is empty").format("a.yaml") == "a.yaml:3: seeds[0]: is empty"
    assert Fault(3, "", "odd", "warning").format("a.yaml") == "a.yaml:3: warning: odd"
