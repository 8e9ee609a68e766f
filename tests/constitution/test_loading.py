"""Found, resolved, hashed and written down again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.constitution.check import examine
from selfalign.constitution.loading import (
    builtin_names,
    constitution_hash,
    find_constitution,
    load_constitution,
    to_yaml,
)
from selfalign.constitution.schema import Constitution
from selfalign.constitution.templating import escape
from selfalign.errors import UserError
from tests.constitution.small import SMALL, changes, line_of


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def read(text: str) -> Constitution:
    constitution, faults = examine(text)
    assert constitution is not None, faults
    return constitution


def test_every_text_is_resolved(small: Path) -> None:
    c = load_constitution(str(small))
    assert c.identity_pairs == [
        ("Who are you?", "I am Ada of the Mill."),
        ("Is Ada your name?", "I am Ada of the Mill."),
    ]
    assert c.principles[0].text == "Ada does no harm."
    assert c.exemplars[0].turns[0].user == "Hello Ada, tea or coffee?"
    assert c.exemplars[0].turns[0].thought.endswith("applies, and 1 (ethical) always does.")
    assert c.exemplars[0].turns[0].response == "Both have friends.\nSays Ada."
    assert c.instruction_types[0].name == "knowledge of the Mill"
    assert c.style("standard") == "A talk with Ada, calm, as the Mill wishes."
    assert c.style("verbose") == "A talk with Ada at length."
    assert c.templates.principles == "A talk with Ada and its principles, up to 2023-12-31."
    assert c.templates.exemplars == "ADA at work."
    assert c.variables == {"standard_head": "A talk with Ada", "manner": "calm, as the Mill wishes"}


def test_the_stage_variable_stays(small: Path) -> None:
    topics = "Topics for questions that require {{ type }}, for Ada."
    assert load_constitution(str(small)).templates.topics == topics
    assert read(changes(("{{ type }}", "{{type}}"))).templates.topics == topics


def test_seeds_are_no_templates(small: Path) -> None:
    assert load_constitution(str(small)).seeds[0].input == '  print({"a": 1}, "{{ x }} {% if %} {# no #}")\ndone'


def test_a_thought_opening_has_no_blanks_around_it() -> None:
    heads = '  exemplars: "{{ name | upper }} at work."\n'
    opening = "  thought_opening: \"A matter{{ ' ' }}\"\n"
    assert read(changes((heads, heads + opening))).templates.thought_opening == "A matter"


def test_literal_braces_elsewhere() -> None:
    c = read(changes(("Says {{ name }}.", "Use {a: {b: 1}} and {{ '{{' }} x }}.")))
    assert c.exemplars[0].turns[0].response.endswith("Use {a: {b: 1}} and {{ x }}.")
    assert read(to_yaml(c)) == c


def test_identity_name_reaches_every_text(small: Path) -> None:
    ada, zoe = load_constitution(str(small)), load_constitution(str(small), identity_name="Zoe")
    assert to_yaml(ada).replace("Ada", "Zoe").replace("ADA", "ZOE") == to_yaml(zoe)
    assert zoe.identity.name == "Zoe"
    assert constitution_hash(ada) != constitution_hash(zoe)


def test_identity_name_is_no_template_and_blank_keeps_the_files(small: Path) -> None:
    assert load_constitution(str(small), identity_name="{{ x }}").style("concise") == "A short talk with {{ x }}."
    assert load_constitution(str(small), identity_name=" ") == load_constitution(str(small))


def test_hash_is_that_of_the_content(small: Path) -> None:
    commented = SMALL.replace("styles:", "# the same\nstyles:")
    assert constitution_hash(read(commented)) == constitution_hash(load_constitution(str(small)))


def test_written_and_read_again_is_equal(small: Path) -> None:
    c = load_constitution(str(small))
    again = read(to_yaml(c))
    assert again == c
    assert to_yaml(again) == to_yaml(c)
    assert constitution_hash(again) == constitution_hash(c)
    assert "    response: |-\n      Both have friends.\n      Says Ada.\n" in to_yaml(c)


@pytest.mark.parametrize("name", builtin_names())
def test_builtin_written_and_read_again_is_equal(name: str) -> None:
    c = load_constitution(name, identity_name="Zoe {{ 1 }}")
    assert read(to_yaml(c)) == c


PIECES = st.lists(
    st.sampled_from(
        ["{{ type }}", "{{", "{%", "{#", "}}", "{", "'", '"', "\n", "\r", "\x85", "\u2028", " ", ":", "é", "#", "no"]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4),
    min_size=1,
).map(lambda pieces: f"x{''.join(pieces)}x")


@given(PIECES)
@settings(max_examples=50, deadline=None)
def test_any_text_survives_being_written(text: str) -> None:
    base = BASE
    turn = base.exemplars[0].turns[0].model_copy(update={"user": text})
    c = base.model_copy(
        update={
            "description": text,
            "exemplars": (base.exemplars[0].model_copy(update={"turns": (turn,)}),),
            "templates": base.templates.model_copy(update={"topics": text}),
            "seeds": (base.seeds[0].model_copy(update={"input": text}), *base.seeds[1:]),
        }
    )
    assert read(to_yaml(c)) == c


BASE = read(SMALL)


def test_escape_is_undone_by_rendering() -> None:
    assert escape("{{{% x }}") == "{{ '{{' }}{{ '{%' }} x }}"


@pytest.mark.parametrize("text", ["x{{{ type }}x", "x{{{{{ type }}x", "x{\rx", "x{"])
def test_a_brace_before_what_is_escaped_survives_being_written(text: str) -> None:
    c = BASE.model_copy(update={"description": text, "templates": BASE.templates.model_copy(update={"topics": text})})
    assert read(to_yaml(c)) == c


def test_what_is_not_there_names_the_builtins(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no constitution 'dromedery'.*built-in \(.*dromedary.*\)"):
        load_constitution("dromedery")
    with pytest.raises(UserError, match="no constitution"):
        load_constitution(str(tmp_path))


def test_builtin_by_name() -> None:
    assert find_constitution("dromedary").source.endswith("builtin/dromedary.yaml")
    assert load_constitution("dromedary").name == "dromedary"


def test_all_faults_are_in_the_error(tmp_path: Path) -> None:
    text = changes(("licence: Apache-2.0", "license: x"), ("number: 2", "number: two"), ("Say hello.", "''"))
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_constitution(str(path))
    for marker in ("license: x", "number: two", "- instruction: ''"):
        assert f"  {path}:{line_of(text, marker)}: " in caught.value.message
    assert caught.value.message.startswith(f"{path}: 4 faults\n")  # and the thought cites principle 2, which is gone
    assert caught.value.hint.endswith(f"selfalign constitution check {path}")


def test_warnings_do_not_keep_it_from_loading() -> None:
    assert read(changes(("  - instruction: Say hello.\n", ""))).seeds[3].instruction == "Draw with words."
