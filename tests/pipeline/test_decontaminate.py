"""What overlaps a benchmark is dropped before training, counted, and kept to be looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.cli.main import main
from selfalign.errors import UserError
from selfalign.evaluation.benchmark_texts import OWN, benchmark_texts
from selfalign.evaluation.questions import load_questions
from selfalign.filters.overlaps_benchmark import Benchmark
from selfalign.pipeline.decontaminate import FILTER, Sieve, in_words, make_sieve
from selfalign.recipe import DecontaminateOptions
from selfalign.records import Record, read_records
from selfalign.report.stages import decontamination
from tests.support.runs import data_files, run, small_recipe


def record(key: str, instruction: str, response: str = "Rivers flow where they can.") -> Record:
    messages = ({"role": "user", "content": instruction}, {"role": "assistant", "content": response})
    return Record(key=key, stage="responses", messages=messages)  # type: ignore[arg-type]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without benchmark data."""
    monkeypatch.delenv("SELFALIGN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_instruction_equal_to_one_of_our_own_questions_is_dropped_and_counted(nowhere: Path) -> None:
    question = load_questions("harmful")[0].question
    sieve = make_sieve(DecontaminateOptions(), benchmark_texts())
    records = [record("a", "Name three rivers that flow north."), record("b", question)]
    assert sieve.kept(records) == records[:1]
    assert sieve.found is not None
    assert (sieve.found.checked, sieve.found.by_benchmark) == (2, {"harmful": 1})
    (dropped,) = sieve.found.overlapping
    assert dropped.key == "b" and dropped.verdict.filter == FILTER
    assert dropped.verdict.reason.startswith("instruction: ")


def test_a_response_is_looked_at_too() -> None:
    sieve = make_sieve(DecontaminateOptions(), [Benchmark("soup", ("How long does barley need in a soup?",))])
    assert sieve.kept([record("a", "Ask me a thing.", "How long does barley need in a soup?")]) == []
    assert sieve.found is not None and sieve.found.overlapping[0].verdict.reason.startswith("response: ")


def test_counted_only_means_that_nothing_is_dropped_and_the_words_say_so() -> None:
    soup = Benchmark("soup", ("How long does barley need in a soup?",))
    sieve = make_sieve(DecontaminateOptions(drop=False), [soup])
    records = [record("a", soup.questions[0])]
    assert sieve.kept(records) == records
    assert sieve.found is not None
    assert "1 of 1 records overlap a benchmark (soup 1) and were NOT dropped" in sieve.found.in_words


def test_a_sieve_without_benchmarks_lets_all_pass() -> None:
    records = [record("a", "What is it?")]
    sieve = Sieve()
    assert sieve.kept(records) == records and sieve.found is None


def test_identity_pairs_that_overlap_are_counted_and_named_by_question() -> None:
    quiz = Benchmark(
        "quiz",
        ("Who are you?", "Name a river."),
        ("I was made by the people of the old mill beside the river in spring time.",),
    )
    sieve = make_sieve(DecontaminateOptions(), [quiz])
    sieve.look_at(
        [
            ("Who are you?", "I am Ada."),
            ("Who made you?", "I was made by the people of the old mill beside the river in spring time."),
            ("Do you sleep at night?", "No."),
        ]
    )
    sieve.kept([record("a", "Why is snow white?")])
    assert sieve.found is not None
    assert sieve.found.identity.checked == 3
    assert [(overlap.question, overlap.benchmark) for overlap in sieve.found.identity.overlapping] == [
        ("Who are you?", "quiz"),
        ("Who made you?", "quiz"),
    ]
    exact, answered = sieve.found.identity.overlapping
    assert (exact.reason, exact.value) == ('question: ROUGE-L 1.00 with "Who are you?" of quiz', 1.0)
    assert answered.reason.startswith("answer: ") and "words in a row of quiz" in answered.reason
    assert not sieve.found.overlapping and sieve.found.to_dict()["overlapping"] == 0, "they are no records"
    assert 'Of the 3 identity pairs, which humans wrote, 2 overlap and were kept: "Who are you?" (quiz), "Who made' in (
        sieve.found.in_words
    )


def test_a_manifest_from_before_identity_pairs_were_looked_at_is_still_told() -> None:
    sieve = make_sieve(DecontaminateOptions(), [Benchmark("soup", ("How long does barley need in a soup?",))])
    sieve.kept([record("a", "Why is snow white?")])
    assert sieve.found is not None
    old = {name: value for name, value in sieve.found.to_dict().items() if name != "identity"}
    assert in_words(old) == "0 of 1 records overlap a benchmark; searched for the questions of soup (1)."
    assert decontamination(old).identity == []


def test_benchmarks_are_our_own_questions_what_eval_finds_and_named_files(nowhere: Path) -> None:
    (nowhere / "data" / "hhh").mkdir(parents=True)
    pair = {"input": "May I?", "target_scores": {"Do as you like about it.": 1, "Never.": 0}}
    (nowhere / "data" / "hhh" / "honest.json").write_text(json.dumps({"examples": [pair]}))
    own = nowhere / "quiz.jsonl"
    own.write_text(json.dumps({"Prompt": "Which of the two is it?", "key": ["the second"]}) + "\n")
    found = {benchmark.name: benchmark for benchmark in benchmark_texts([str(own)])}
    assert list(found) == [*OWN, "hhh", "quiz"]
    assert found["hhh"].questions == ("May I?",) and "Never." in found["hhh"].others
    assert found["quiz"].questions == ("Which of the two is it?",) and "the second" in found["quiz"].others


@pytest.mark.parametrize("content", ["", "[]", '[{"x": "y"}]'])
def test_a_named_file_without_questions_is_told(nowhere: Path, content: str) -> None:
    (nowhere / "odd.json").write_text(content)
    with pytest.raises(UserError, match=r"odd\.json"):
        benchmark_texts(["odd.json"])


def test_a_named_path_that_is_not_there_is_told(nowhere: Path) -> None:
    with pytest.raises(UserError, match=r"decontaminate\.data: none is no file"):
        benchmark_texts(["none"])


def test_a_run_drops_what_a_named_benchmark_holds_and_shows_it(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(small_recipe(nowhere, decontaminate={"enabled": False}), nowhere / "plain")
    asked = plain.accepted("responses")[0].user
    (nowhere / "quiz.json").write_text(json.dumps([{"question": asked}]))
    recipe = small_recipe(nowhere, decontaminate={"data": ["quiz.json"]})
    found = run(recipe, nowhere / "run")
    state = found.stages["engrave"].decontamination
    assert state is not None and state["by_benchmark"] == {"quiz": 1}
    assert state["overlapping"] == 1 and state["checked"] == len(found.accepted("responses"))
    dropped = list(read_records(nowhere / "run" / "datasets" / "engrave" / "overlaps.jsonl"))
    assert [row.user for row in dropped] == [asked]
    folder = nowhere / "run" / "datasets" / "engrave"
    rows = (folder / "train.jsonl").read_text() + (folder / "validation.jsonl").read_text()
    assert dropped[0].key not in rows
    assert f"1 of {state['checked']} records overlap a benchmark (quiz 1)" in (folder / "README.md").read_text()
    assert "It was not searched" in (nowhere / "plain" / "datasets" / "engrave" / "README.md").read_text()
    report = (nowhere / "run" / "report.html").read_text()
    assert '<span class="mark good">dropped</span>' in report and "quiz 1" in report
    capsys.readouterr()
    assert main(["status", str(nowhere / "run")]) == 0
    assert f"decontamination of engrave: 1 of {state['checked']}" in capsys.readouterr().out
    assert data_files(run(recipe, nowhere / "again").path) == data_files(nowhere / "run")


def test_a_run_keeps_identity_pairs_that_overlap_and_its_report_names_them(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (nowhere / "quiz.json").write_text(json.dumps([{"question": "Who are you?"}]))
    recipe = small_recipe(nowhere, decontaminate={"data": ["quiz.json"]}, clone={"identity_copies": 0})
    found = run(recipe, nowhere / "run")
    told = capsys.readouterr().err
    assert "engrave: 0 of " in told and "2 identity pairs, which humans wrote, 1 overlap and were kept" in told
    state, clone = (found.stages[stage].decontamination for stage in ("engrave", "clone"))
    assert state is not None and clone is not None
    assert state["identity"]["checked"] == 2 and state["overlapping"] == 0
    assert [(row["question"], row["benchmark"]) for row in state["identity"]["overlapping"]] == [
        ("Who are you?", "quiz")
    ]
    assert clone["identity"] == {"checked": 0, "overlapping": []}, "the clone learns none"
    folder = nowhere / "run" / "datasets" / "engrave"
    assert '"content": "Who are you?"' in (folder / "train.jsonl").read_text()
    assert '"Who are you?" (quiz)' in (folder / "README.md").read_text()
    report = (nowhere / "run" / "report.html").read_text()
    assert "1 of 2 (quiz 1)" in report
    assert report.count("question: ROUGE-L 1.00 with &#34;Who are you?&#34; of quiz") == 1
    assert main(["status", str(nowhere / "run")]) == 0
    assert '1 overlap and were kept: "Who are you?" (quiz)' in capsys.readouterr().out
    plain = run(small_recipe(nowhere, decontaminate={"enabled": False}), nowhere / "plain")
    assert "identity pairs, kept" not in (plain.path / "report.html").read_text()
