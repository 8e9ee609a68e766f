"""Instructions from elsewhere: every form and file, cleaned, each once, capped, with origin and licence."""

from __future__ import annotations

import csv
import gzip
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from selfalign.constitution.schema import Constitution
from selfalign.errors import UserError
from selfalign.pipeline.context_length import check_context
from selfalign.pipeline.sources.forms import first_user_turn, form_of
from selfalign.pipeline.sources.rows import rows_of
from selfalign.pipeline.sources.taking import MAX_CHARACTERS, Taken, take
from selfalign.recipe import EngineOptions, Recipe, SourceOptions, validate_recipe
from selfalign.records import Tokens, read_records
from tests.support.runs import data_files, run, small_constitution, small_recipe

ASK = "Tell me how kites stay up."


def taken(path: Path | str, seed: int = 0, **options: Any) -> Taken:
    source = SourceOptions(path=str(path), **options)
    return take(source, rows_of(source), seed, set())


def texts(path: Path | str, **options: Any) -> list[str]:
    return [given.instruction for given in taken(path, **options).instructions]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ----------------------------------------------------------------------------------------------------------- forms

TURN = {"from": "human", "value": ASK}
ANSWER = {"from": "gpt", "value": "By their string."}
FORMS = {
    "sharegpt": {"id": "a_0", "conversations": [TURN, ANSWER, {"from": "human", "value": "And birds?"}]},
    "messages": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}]},
    "openassistant": {"message_tree_id": "1", "parent_id": None, "text": ASK, "role": "prompter", "lang": "en"},
    "openorca": {"id": "flan.1", "system_prompt": "", "question": ASK, "response": "By their string."},
    "dolly": {"instruction": ASK, "context": "", "response": "By their string.", "category": "open_qa"},
    "alpaca": {"instruction": ASK, "input": "", "output": "By their string."},
    "list": {"prompt": ASK},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_first_user_turn_of_every_form_is_taken(form: str, tmp_path: Path) -> None:
    assert form_of(FORMS[form]) == form
    file = write(tmp_path / "data.jsonl", FORMS[form])
    assert texts(file) == texts(file, format=form) == [ASK]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [ANSWER, TURN]},
        {"conversations": []},
        {"conversations": None},
        {"conversations": [{"from": "human", "value": None}, ANSWER]},
        {"conversations": "Hello"},
        {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ASK}]}]},
        {"message_tree_id": "1", "parent_id": "0", "text": ASK, "role": "prompter"},
        {"message_tree_id": "1", "parent_id": None, "text": ASK, "role": "assistant"},
        {"message_tree_id": "1", "parent_id": None, "text": ASK, "role": "prompter", "deleted": True},
        {"instruction": None, "input": ASK},
        {"instruction": {"text": ASK}},
        {"a": ASK, "b": ASK},
        None,
        7,
        [ASK],
    ],
)
def test_rows_without_a_first_user_turn_give_nothing(row: Any) -> None:
    assert first_user_turn(row, "auto") is None


def test_trees_parts_and_inputs_are_read() -> None:
    tree = {"message_tree_id": "1", "prompt": {"text": ASK, "role": "prompter", "replies": [{"text": "x"}]}}
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}]}
    assert first_user_turn(tree, "auto") == first_user_turn(parts, "auto") == first_user_turn(ASK, "auto") == (ASK, "")
    assert first_user_turn({"instruction": ASK, "context": "A kite."}, "auto") == (ASK, "A kite.")
    assert first_user_turn({"instruction": ASK, "input": None, "output": ""}, "auto") == (ASK, "")


# ----------------------------------------------------------------------------------------------------------- files

MANY = [f"Tell me fact number {i} about kites, please." for i in range(300)]


def test_every_kind_of_file_gives_the_same(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"instruction": text, "input": "", "output": "x" * 1000} for text in MANY]
    write(tmp_path / "a.jsonl", *rows)
    (tmp_path / "b.json").write_text(" " + json.dumps(rows, indent=1), encoding="utf-8")
    write(tmp_path / "c.json", *rows)
    with (tmp_path / "d.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, ["instruction", "input", "output"])
        table.writeheader()
        table.writerows(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "e.parquet")
    (tmp_path / "f.txt").write_text("\n\n".join(MANY), encoding="utf-8")
    (tmp_path / "g.txt").write_text("\r\n".join(MANY), encoding="utf-16")
    with gzip.open(tmp_path / "h.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.write((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    (tmp_path / "i.json").write_text(json.dumps(MANY), encoding="utf-8")
    for file in sorted(tmp_path.iterdir()):
        assert texts(file) == MANY, file.name
    folder = taken(tmp_path)
    assert [given.instruction for given in folder.instructions] == MANY
    assert folder.passed_over == {"duplicate": 8 * len(MANY)}


def test_origin_is_the_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[\n"Tell me one fact.",\n\n"Tell me two facts."\n]', encoding="utf-8")
    write(tmp_path / "y.jsonl", {"prompt": "Tell me three facts."}, {"prompt": "Tell me four facts."})
    rows = taken(tmp_path, licence="CC BY 4.0").instructions
    assert [given.origin for given in rows] == ["x.json:2", "x.json:4", "y.jsonl:1", "y.jsonl:2"]
    assert {given.licence for given in rows} == {"CC BY 4.0"}


def test_a_hub_id_is_streamed_and_its_absence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Any:
        asked.append((names, options))
        if names[0] == "org/gone":
            raise ConnectionError("no route\nto it")
        return iter([{"prompt": ASK}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    given = taken("org/kites", split="test", config="en").instructions
    assert [row.origin for row in given] == ["org/kites:test:1"]
    assert asked == [(("org/kites", "en"), {"split": "test", "streaming": True})]
    with pytest.raises(
        UserError, match=r"'org/gone': no such file here, and not to be had from the Hub: ConnectionError: no route\n"
    ):
        taken("org/gone")


# -------------------------------------------------------------------------------------------- cleaning, cap, licence


def test_texts_are_cleaned_and_markup_is_kept_as_text(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        "  Tell me\r\n\x00more\u202e about\ud800 e\u0301tudes.\n",
        "<script>alert('x')</script> Why does <b>this</b> run?",
        '=HYPERLINK("http://x.example","sum")',
    )
    assert texts(file) == [
        "Tell me\nmore about \u00e9tudes.",
        "<script>alert('x')</script> Why does <b>this</b> run?",
        '=HYPERLINK("http://x.example","sum")',
    ]


def test_what_differs_in_case_blanks_and_marks_only_is_taken_once(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        "Why is tea green?",
        "why  is tea GREEN",
        "Why is \uff54\uff45\uff41 green?!",
        "Why is tea?",
    )
    found = taken(file)
    assert [row.instruction for row in found.instructions] == ["Why is tea green?", "Why is tea?"]
    assert found.passed_over == {"duplicate": 2}


def test_the_cap_draws_evenly_and_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    forth, back = write(tmp_path / "a.jsonl", *MANY), write(tmp_path / "b.jsonl", *reversed(MANY))
    found = texts(forth, cap=100)
    assert len(found) == 100
    assert found == [text for text in MANY if text in found], "in the order of the rows"
    assert sorted(texts(back, cap=100)) == sorted(found)
    assert texts(forth, cap=100, seed=1) != found
    assert 30 < sum(text in found for text in MANY[:150]) < 70
    assert taken(forth, cap=100).passed_over == {"over the cap": 200}
    assert texts(forth, cap=1000) == MANY


# ------------------------------------------------------------------------------------------------------- bad input


def test_bad_rows_are_counted_and_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = [
        b'{"prompt": "Tell me one fact."}',
        b'{"prompt": "Tell me',
        b"[" * 100_000,
        json.dumps({"prompt": None}).encode(),
        json.dumps({"prompt": "?!"}).encode(),
        json.dumps({"prompt": "long " * MAX_CHARACTERS}).encode(),
        '{"prompt": "Tell me about a café."}'.encode("cp1252"),
        '{"prompt": "Tell me about a crêpe."}'.encode(),
        b'{"prompt": ' + b"9" * 5000 + b"}",
    ]
    file.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    found = taken(file)
    said = [row.instruction for row in found.instructions]
    assert said == ["Tell me one fact.", "Tell me about a café.", "Tell me about a crêpe."]
    assert found.passed_over == {"unreadable": 3, "no user turn": 1, "empty": 1, "too long": 1}
    assert found.rows == 9
    assert found.first_fault.startswith("a.jsonl:2: not JSON: ")


def test_lines_of_ten_megabytes_are_passed_over_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    huge = json.dumps({"prompt": "word " * 2_000_000})
    file.write_text(f"{huge}\n{json.dumps({'prompt': ASK})}\n{huge}", encoding="utf-8")
    found = taken(file)
    assert [row.origin for row in found.instructions] == ["a.jsonl:2"]
    assert found.passed_over == {"too long": 2}


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lines", "rows"):
        monkeypatch.setattr(f"selfalign.pipeline.sources.{module}.MAX_ROW", 2**20)
    file = tmp_path / "a.jsonl"
    file.write_text('"' + "x" * (5 * 2**20) + f'"\n"{ASK}"\n', encoding="utf-8")
    found = taken(file)
    assert [row.origin for row in found.instructions] == ["a.jsonl:2"]
    assert found.first_fault == "a.jsonl:1: longer than 1 MiB"
    as_list = tmp_path / "a.json"
    as_list.write_text('["' + "x" * (5 * 2**20), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json:1: not JSON: Unterminated string"):
        taken(as_list)


def test_ten_thousand_duplicates_take_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f'{{"prompt": "{ASK}"}}\n' * 10_000, encoding="utf-8")
    tracemalloc.start()
    found = taken(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(found.instructions), found.passed_over) == (1, {"duplicate": 9_999})
    assert peak < 2**20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["duplicates.jsonl", "distinct.jsonl", "distinct.json"])
def test_a_million_rows_are_read_in_seconds_and_flat_memory(name: str, tmp_path: Path) -> None:
    import resource

    file, same = tmp_path / name, name.startswith("duplicates")
    rows = (json.dumps({"prompt": ASK if same else f"Tell me fact {i} about kites."}) for i in range(1_000_000))
    file.write_text("[" + ",\n".join(rows) + "]" if name.endswith("json") else "\n".join(rows), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = taken(file, cap=5000)
    assert time.process_time() - start < 40
    assert len(found.instructions) == (1 if same else 5000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "KiB"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "no source at '"),
        ("a.docx", b"x", "is none of .json, .jsonl"),
        ("a.parquet", b"x", "is no Parquet file: "),
        ("a.jsonl.gz", b"x", "cannot be read: Not a gzipped file"),
        ("a.json", b"{]", "a.json:1: neither a JSON list nor a JSON value a line"),
        ("a.json", b'["x",\n"y', "a.json:2: not JSON: "),
        ("a.json", b'["x",\n{"y" 1}]', "a.json:2: not JSON: "),
        ("a.json", b"[" * 200_000, "a.json:1: nested too deeply"),
        ("a.jsonl", b"", "none of its 0 rows gives an instruction"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"b": 2}',
            "none of its 2 rows gives an instruction (2 no user turn; first a.jsonl:1: ",
        ),
        ("a.txt", b"\n ?\n", "(1 empty)"),
    ],
)
def test_a_source_that_gives_nothing_is_told(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        taken(tmp_path / name)
    assert said in caught.value.message
    assert caught.value.hint


def test_a_format_that_is_not_the_files_is_told_with_its_keys(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"instruction": ASK, "output": ""})
    with pytest.raises(UserError, match=r"no first user turn \(sharegpt\) in a row of instruction, output"):
        taken(file, format="sharegpt")


def test_odd_names_and_special_files_do_no_harm(tmp_path: Path) -> None:
    odd = tmp_path / "..;$(rm -rf x)\n\x1b[31m<b>.txt"
    odd.write_text(ASK, encoding="utf-8")
    assert taken(odd).instructions[0].origin == "..??(rm -rf x)???31m?b?.txt:1"
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (
        tmp_path / "pipe.jsonl",
        "/dev/zero",
        "../../none/here.json",
        "x" * 5000,
        "a\0b.json",
        "-rf",
        "~no one/x.txt",
    ):
        with pytest.raises(UserError):
            taken(path)
    hidden = tmp_path / "data" / ".git"
    hidden.mkdir(parents=True)
    (hidden / "x.txt").write_text(ASK, encoding="utf-8")
    with pytest.raises(UserError, match="has no file of"):
        taken(tmp_path / "data")


def test_recipes_name_sources_by_path_or_in_full_and_faults_have_their_place() -> None:
    recipe = validate_recipe({"instructions": {"sources": ["a.json", {"path": "b/c", "cap": 5, "licence": "x"}]}}, "r")
    assert recipe.instructions.sources == (SourceOptions(path="a.json"), SourceOptions(path="b/c", cap=5, licence="x"))
    with pytest.raises(UserError) as caught:
        validate_recipe({"instructions": {"sources": [{"paht": "a"}, {"path": "a", "cap": -1}, {"path": 3}]}}, "r")
    said = caught.value.message
    assert "instructions.sources.0.paht: unknown key; known here: path, format, cap, licence, split, config" in said
    assert "instructions.sources.1.cap: -1" in said


# ------------------------------------------------------------------------------------------------------ in the run


def sourced(folder: Path, made: int = 3, **changes: Any) -> Recipe:
    """A scripted recipe with two sources, and `made` instructions of each kind that the model makes."""
    rows = [{"instruction": text, "context": "Kite no. 7.", "response": "x"} for text in KITES]
    write(folder / "dolly.jsonl", *rows)
    (folder / "list.txt").write_text(
        f"{KITES[0]}\nSay when the ferry leaves for the small island.\nNo.\n", encoding="utf-8"
    )
    sources = [
        {"path": str(folder / "dolly.jsonl"), "licence": "CC BY-SA 3.0", "cap": 6},
        {"path": str(folder / "list.txt")},
    ]
    return small_recipe(
        folder, instructions={"topic_guided": made, "self_instruct": made, "sources": sources}, **changes
    )


KITES = [
    "Describe how a box kite keeps its shape in a storm.",
    "Which knots hold a kite line best, and why?",
    "Write a short poem for somebody who lost a kite.",
    "Compare silk and paper as cloth for kites.",
    "Plan an afternoon on the beach with two kites.",
    "Explain to a child what wind is made of.",
]


def test_a_run_takes_given_instructions_with_origin_and_licence(tmp_path: Path) -> None:
    directory = run(sourced(tmp_path), tmp_path / "run", until="responses")
    records = list(read_records(tmp_path / "run" / "instructions.jsonl"))
    given = [record for record in records if record.origin]
    assert [record.origin for record in given] == [*(f"dolly.jsonl:{i}" for i in range(1, 7)), "list.txt:2"]
    assert [record.licence for record in given] == ["CC BY-SA 3.0"] * 6 + [""]
    assert given[0].user == f"{KITES[0]}\n\nKite no. 7."
    assert given[0].engine == {}, "no model made it"
    assert sum(not record.origin for record in records) >= 6
    rejected = list(read_records(tmp_path / "run" / "rejected" / "instructions.jsonl"))
    assert [record.verdict.filter for record in rejected if record.origin] == ["novelty", "length"]
    answered = {record.parents[0] for record in read_records(tmp_path / "run" / "responses.jsonl")}
    assert answered & {record.key for record in given}
    assert [row["taken"] for row in directory.manifest["sources"]["sources"]] == [6, 3]


def test_a_run_of_sources_alone_asks_the_model_for_no_instruction(tmp_path: Path) -> None:
    recipe = sourced(tmp_path, made=0, topics={"per_type": 1}, engine={"script": "tests.support.scripts:nonsense"})
    directory = run(recipe, tmp_path / "run", until="instructions")
    assert all(record.origin for record in read_records(tmp_path / "run" / "instructions.jsonl"))
    state = directory.stages["instructions"]
    assert (state.accepted, state.rejected, state.tokens) == (7, {"novelty": 1, "length": 1}, Tokens())


def test_a_resumed_run_needs_its_sources_no_more(tmp_path: Path) -> None:
    recipe = sourced(tmp_path)
    run(recipe, tmp_path / "whole", until="instructions")
    run(recipe, tmp_path / "run", until="topics")
    for name in ("dolly.jsonl", "list.txt"):
        (tmp_path / name).unlink()
    run(recipe, tmp_path / "run", until="instructions")
    assert data_files(tmp_path / "run") == data_files(tmp_path / "whole")


def test_sources_are_read_before_the_first_stage_and_their_copy_is_guarded(tmp_path: Path) -> None:
    recipe = sourced(tmp_path)
    (tmp_path / "list.txt").unlink()
    with pytest.raises(UserError, match="no source at"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "topics.jsonl").exists()
    recipe = sourced(tmp_path)
    run(recipe, tmp_path / "run", until="topics")
    copy = tmp_path / "run" / "sources.jsonl"
    copy.write_text(copy.read_text(encoding="utf-8").replace("kite", "bomb"), encoding="utf-8")
    with pytest.raises(UserError, match="was changed since the run began"):
        run(recipe, tmp_path / "run")


def test_a_constitution_that_the_context_cannot_hold_is_told_before_the_run(tmp_path: Path) -> None:
    from tests.support.tiny import tiny_tokenizer

    base = tmp_path / "tiny"
    tiny_tokenizer().save_pretrained(base)
    (base / "config.json").write_text('{"max_position_embeddings": 1024}', encoding="utf-8")
    (base / "model.safetensors").touch()  # no weights are read
    small = small_constitution()
    rules = [
        rule.model_dump() | {"number": n, "name": f"rule {n}"} for n in range(3, 201) for rule in small.principles[:1]
    ]
    many = Constitution.model_validate(small.model_dump() | {"principles": [*small.model_dump()["principles"], *rules]})
    recipe = Recipe(base_model=str(base), constitution="mine.yaml", responses={"max_tokens": 8, "thought_tokens": 8})  # type: ignore[arg-type]
    check_context(recipe, small)
    with pytest.raises(UserError) as caught:
        check_context(recipe, many)
    said = caught.value.message
    assert "its 200 principles and 1 exemplar turns take " in said
    assert said.endswith("a thought and a reply 16, and the context holds 1,024")
    check_context(recipe.model_copy(update={"engine": EngineOptions(kind="scripted")}), small)
