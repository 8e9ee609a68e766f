"""TruthfulQA on questions whose scores are set by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from selfalign.errors import EngineFailed, UserError
from selfalign.evaluation.result import Measurement, Outcome
from selfalign.evaluation.statistics import wilson
from selfalign.evaluation.task import TaskOptions, make_task, run_task
from tests.evaluation.choices import row, scores, subject, write

LAMP = row("Which lamp is lit?", ["Red."], ["Blue.", "None."])


def measure(
    data: Path, scorer: Any, name: str = "truthfulqa-mc1", context_length: int = 1_000_000, **options: Any
) -> tuple[Measurement, list[Outcome]]:
    """The task's measurement, and the outcomes with their texts."""
    task = make_task(name, TaskOptions(data=data, **options))
    outcomes: list[Outcome] = []
    result = run_task(subject(scorer, context_length), task, outcomes.append)
    return result.measurements[name], outcomes


def test_mc1_is_1_where_the_right_candidate_of_three_scores_highest(tmp_path: Path) -> None:
    data = write(tmp_path / "mc_task.json", [LAMP])
    right, outcomes = measure(data, scores({"Red.": -1, "Blue.": -2, "None.": -3}))
    assert (right.value, right.n, right.interval, right.chance) == (1.0, 1, wilson(1, 1), 1 / 3)
    assert outcomes[0].candidates[outcomes[0].pick or 0] == "Red."
    wrong, _ = measure(data, scores({"Red.": -2, "Blue.": -1, "None.": -3}))
    assert (wrong.value, wrong.extra["ties"]) == (0.0, 0)


def test_the_qa_prompt_ends_with_the_question_and_candidates_follow_a_space(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    data = write(tmp_path / "mc_task.json", [LAMP])
    measure(data, lambda *pair: float(bool(seen.append(pair))))
    contexts, continuations = zip(*seen, strict=True)
    assert sorted(continuations) == [" Blue.", " None.", " Red."]
    assert len(set(contexts)) == 1
    assert contexts[0].startswith("Q: What is human life expectancy in the United States?\nA: ")
    assert contexts[0].endswith("in Barcelona, Spain.\n\nQ: Which lamp is lit?\nA:")
    assert contexts[0].count("Q: ") == 7


def test_in_the_paper_format_each_candidate_stands_alone_and_true_is_set_against_false(tmp_path: Path) -> None:
    table = {"Red.": (-1.0, -3.0), "Blue.": (-0.5, -0.1), "None.": (-2.0, -3.0)}

    def scorer(context: str, word: str) -> float:
        (named,) = [name for name in table if f"Answer: {name}\n" in context]
        return dict(zip((" true", " false"), table[named], strict=True))[word]

    data = write(tmp_path / "mc_task.json", [LAMP])
    measurement, outcomes = measure(data, scorer, prompt_format="paper")
    found = dict(zip(outcomes[0].candidates, outcomes[0].scores, strict=True))
    assert found == pytest.approx({"Red.": 2.0, "Blue.": -0.4, "None.": 1.0})
    assert (measurement.value, measurement.prompt_format) == (1.0, "paper")
    assert "{{ candidate }}" in outcomes[0].prompt
    assert str(outcomes[0].prompt).startswith("You answer.\n\n### User\n")

    sigmoid = {name: 1 / (1 + math.exp(-score)) for name, score in found.items()}
    mc2, _ = measure(data, scorer, "truthfulqa-mc2", prompt_format="paper")
    assert mc2.value == pytest.approx(sigmoid["Red."] / sum(sigmoid.values()))


def test_mc2_is_the_probability_of_the_true_set_over_all(tmp_path: Path) -> None:
    question = row("Which lamp is lit?", ["Red.", "The red one."], ["Blue."])
    data = write(tmp_path / "mc_task.json", [question])
    table = {"Red.": math.log(0.2), "The red one.": math.log(0.1), "Blue.": math.log(0.3)}
    measurement, _ = measure(data, scores(table), "truthfulqa-mc2")
    assert measurement.value == pytest.approx(0.5)
    assert measurement.chance == pytest.approx(2 / 3)
    tiny = {name: score - 5000 for name, score in table.items()}  # exp() of these is 0
    assert measure(data, scores(tiny), "truthfulqa-mc2")[0].value == pytest.approx(0.5)


def test_every_candidate_is_ranked_wherever_it_stands(tmp_path: Path) -> None:
    """Fails if only half of the candidates is ranked: a wrong one of the second half scores highest."""
    wrong = ["Blue.", "Green.", "White.", "None."]
    data = write(tmp_path / "mc_task.json", [row("Which lamp is lit?", ["Red."], wrong)])
    for loudest in wrong:
        measurement, outcomes = measure(data, scores({"Red.": 1, loudest: 2}))
        assert measurement.value == 0.0
        assert len(outcomes[0].scores) == 5
    assert measure(data, scores({"Red.": 2, "None.": 1}))[0].value == 1.0


def test_the_originals_fault_ranks_the_first_half_and_says_so(tmp_path: Path) -> None:
    data = write(tmp_path / "mc_task.json", [row("Which?", ["Red."], ["Blue.", "Green.", "None."])])
    scorer = scores({"None.": 9, "Green.": 8, "Red.": 1})
    assert measure(data, scorer)[0].value == 0.0
    measurement, outcomes = measure(data, scorer, scoring="original-first-half")
    assert (measurement.value, measurement.chance) == (1.0, 0.5)
    assert outcomes[0].candidates == ("Red.", "Blue.")
    assert "hold it against the paper's figure only" in measurement.to_dict()["warning"]
    assert measurement.to_dict()["scoring"] == "original-first-half"
    with pytest.raises(UserError, match="fault of MC1"):
        make_task("hhh", TaskOptions(scoring="original-first-half"))


def test_an_engine_that_likes_all_alike_scores_at_chance(tmp_path: Path) -> None:
    rows = [row(f"Which of {i}?", ["Red."], ["Blue.", "Green.", "None."]) for i in range(400)]
    data = write(tmp_path / "mc_task.json", rows)
    measurement, outcomes = measure(data, scores({}))
    assert measurement.chance == 0.25
    assert measurement.extra == {"scoring": "all", "ties": 400, "expected_value": 0.25}
    assert measurement.value == pytest.approx(0.25, abs=0.07)
    assert measurement.interval and measurement.interval.low < 0.25 < measurement.interval.high
    firsts = sum(outcome.extra["labels"][0] for outcome in outcomes)
    assert firsts == pytest.approx(100, abs=30)  # the file always has it first
    assert measure(data, scores({}))[1] == outcomes
    assert measure(data, scores({}), seed=1)[1] != outcomes


def test_the_draw_is_among_the_tied_alone(tmp_path: Path) -> None:
    data = write(tmp_path / "mc_task.json", [row(f"Which of {i}?", ["Red."], ["Blue.", "None."]) for i in range(60)])
    measurement, outcomes = measure(data, scores({"Red.": 2, "Blue.": 2}))
    picked = {outcome.candidates[outcome.pick or 0] for outcome in outcomes}
    assert picked == {"Red.", "Blue."}
    assert measurement.extra["expected_value"] == 0.5


def test_the_hubs_form_gives_the_same_items(tmp_path: Path) -> None:
    hub = {
        "question": LAMP["question"],
        "mc1_targets": {"choices": ["Red.", "Blue.", "None."], "labels": [1, 0, 0]},
    }
    file = tmp_path / "truthfulqa.jsonl"
    file.write_text(json.dumps(hub) + "\n\n", encoding="utf-8")
    (ours,) = make_task("truthfulqa-mc1", TaskOptions(write(tmp_path / "mc_task.json", [LAMP]))).items()
    assert make_task("truthfulqa-mc1", TaskOptions(file)).items() == [ours]


def test_the_table_of_2025_gives_all_three_measures(tmp_path: Path) -> None:
    file = tmp_path / "TruthfulQA.csv"
    file.write_text(
        "Type,Category,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source\n"
        'A,B,Which lamp is lit?,Red.,Blue.,"Red.; The red one.","Blue.; None.",x\n',
        encoding="utf-8",
    )
    table = scores({"None.": 3, "Red.": 2, "Blue.": 1})
    binary, outcomes = measure(tmp_path, table, "truthfulqa-binary")
    assert (binary.value, binary.chance, sorted(outcomes[0].candidates)) == (1.0, 0.5, ["Blue.", "Red."])
    assert measure(tmp_path, table, "truthfulqa-mc1")[0].value == 0.0
    assert measure(tmp_path, table, "truthfulqa-mc2")[0].chance == 0.5


def test_answers_of_the_table_end_as_those_of_the_file_do(tmp_path: Path) -> None:
    """mc_task.json and the benchmark's own scoring close every answer with a full stop; the table mostly does not."""
    (tmp_path / "TruthfulQA.csv").write_text(
        "Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers\n"
        'Which lamp is lit?,Red,Blue,"Red; The red one",Blue; None. ;\n',
        encoding="utf-8",
    )

    def items(name: str, folder: Path) -> Any:
        return list(make_task(f"truthfulqa-{name}", TaskOptions(folder)).items())

    rows = [row("Which lamp is lit?", ["Red.", "The red one."], ["Blue.", "None."])]
    file = write(tmp_path / "file" / "mc_task.json", rows).parent
    for name in ("mc1", "mc2"):
        assert items(name, tmp_path / "TruthfulQA.csv") == items(name, file)
    assert items("binary", tmp_path)[0].candidates == ("Red.", "Blue.")


def test_what_cannot_be_judged_is_counted_apart_from_wrong(tmp_path: Path) -> None:
    no_targets = {"question": "Which?"}
    no_question = {"mc1_targets": {"a": 1, "b": 0}}
    empty = {"question": "Which?", "mc1_targets": {" ": 1, "b": 0}}
    none = {"question": "Which?", "mc1_targets": {}}
    one = {"question": "Which?", "mc1_targets": {"a": 1}}
    unlabelled = {"question": "Which?", "mc1_targets": {"a": 2, "b": 0}}
    long = row("Which " + "very " * 200 + "long lamp?", ["Red."], ["Blue."])
    rows = [LAMP, no_targets, no_question, empty, none, one, unlabelled, long]
    measurement, outcomes = measure(write(tmp_path / "f.json", rows), scores({"Red.": 1}), context_length=200)
    assert (measurement.value, measurement.n, measurement.unjudged) == (1.0, 1, 7)
    assert [outcome.reason for outcome in outcomes] == [
        "",
        "it has no field 'mc1_targets'",
        "it has no field 'question'",
        "candidate 1 is empty",
        "it has no candidates",
        "it has 1 candidate(s), a choice has two",
        "the label of candidate 1 is 2, not 0 or 1",
        outcomes[-1].reason,
    ]
    assert "the context holds 200" in outcomes[-1].reason
    assert len({outcome.id for outcome in outcomes}) == len(outcomes)


def test_a_file_of_another_benchmark_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    file = write(tmp_path / "mc_task.json", [LAMP, LAMP])
    with pytest.raises(UserError, match=r"not one of 2 questions can be read: .* best incorrect answer"):
        make_task("truthfulqa-binary", TaskOptions(file)).items()


def test_a_run_of_which_nothing_can_be_judged_fails_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not one of 2 items could be judged: the prompt has"):
        measure(write(tmp_path / "f.json", [LAMP, LAMP]), scores({}), context_length=3)


def test_candidates_without_any_probability_are_not_judged(tmp_path: Path) -> None:
    data = write(tmp_path / "f.json", [LAMP, row("Which?", ["Yes."], ["No."])])
    for scorer in (scores({"Yes.": -math.inf, "No.": -math.inf}), scores({"Yes.": math.nan})):
        measurement, outcomes = measure(data, scorer)
        assert (measurement.n, measurement.unjudged) == (1, 1)
        assert outcomes[1].reason in ("candidates have probability 0", "a score is not a number")


def test_a_dead_engine_is_not_taken_for_a_long_question(tmp_path: Path) -> None:
    def dead(context: str, continuation: str) -> float:
        raise EngineFailed("the server is gone")

    with pytest.raises(EngineFailed, match="gone"):
        measure(write(tmp_path / "f.json", [LAMP]), dead)


def test_a_question_asked_twice_counts_twice(tmp_path: Path) -> None:
    measurement, outcomes = measure(write(tmp_path / "f.json", [LAMP, LAMP]), scores({"Red.": 1}))
    assert measurement.n == 2
    assert outcomes[1].id == f"{outcomes[0].id}-2"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "no list of questions"),
        ('["a"]', "no list of questions"),
        pytest.param("[" * 200_000, "cannot be read: maximum recursion depth", id="deep"),
    ],
)
def test_a_file_that_is_no_benchmark_is_said_to_be_none(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "mc_task.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        make_task("truthfulqa-mc1", TaskOptions(tmp_path)).items()


def test_data_are_looked_for_where_they_are_named_then_in_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SELFALIGN_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no file or directory"):
        make_task("truthfulqa-mc1", TaskOptions(tmp_path / "nowhere")).items()
    with pytest.raises(UserError, match=r"has no mc_task\.json"):
        make_task("truthfulqa-mc1", TaskOptions(tmp_path)).items()
    with pytest.raises(UserError, match="no data found"):
        make_task("truthfulqa-binary", TaskOptions()).items()
    write(tmp_path / "data" / "truthfulqa" / "mc_task.json", [LAMP])
    assert len(make_task("truthfulqa-mc1", TaskOptions()).items()) == 1
    write(tmp_path / "other" / "mc_task.json", [LAMP, LAMP])
    monkeypatch.setenv("SELFALIGN_DATA", str(tmp_path / "other"))
    assert len(make_task("truthfulqa-mc1", TaskOptions()).items()) == 2
    assert len(make_task("truthfulqa-mc1", TaskOptions(limit=1)).items()) == 1


def test_an_outcome_reads_back_from_its_line(tmp_path: Path) -> None:
    _, outcomes = measure(write(tmp_path / "f.json", [LAMP]), scores({"Red.": 1}))
    assert Outcome.from_json(outcomes[0].to_json()) == outcomes[0]
