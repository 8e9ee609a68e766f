"""What the report draws: that counts add up, that shapes are where they belong, and what is guessed is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from selfalign.constitution.loading import load_constitution
from selfalign.errors import UserError
from selfalign.evaluation.statistics import difference_of_shares
from selfalign.filters.words import rouge_l, words
from selfalign.pipeline.instructions import InstructionsStage
from selfalign.pipeline.stage import Job
from selfalign.recipe import InstructionsOptions
from selfalign.records import Record, Verdict
from selfalign.report.build import build_report
from selfalign.report.by_type import ALONE, by_type
from selfalign.report.explorer import examples, explorer
from selfalign.report.flow import Flow, flow
from selfalign.report.lengths import distributions, quantile
from selfalign.report.novelty import novelties, novelty, spread
from selfalign.report.read import RunFiles, read_run
from selfalign.report.sankey import sankey
from selfalign.report.spending import spending
from selfalign.report.stages import stage_rows
from selfalign.report.sunburst import MIDDLE, OUTER, fitting, sunburst
from selfalign.report.verbs import VerbUse, parsed, root_pair, verbs
from selfalign.report.versus import write_comparison
from selfalign.report.word_classes import verb_and_object
from tests.report.test_report import Page, record, write_records, write_run
from tests.support.runs import context, run, small_constitution, small_recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    """A scripted run of all stages."""
    folder = tmp_path_factory.mktemp("charted")
    run(small_recipe(folder), folder / "run")
    return read_run(folder / "run")


# ---------------------------------------------------------------------------------------------------------------- flow


def nodes(drawn: Flow | None) -> dict[str, int]:
    assert drawn is not None
    return {node.name: node.number for node in drawn.nodes}


def test_what_enters_a_node_of_the_flow_is_what_it_counts(finished: RunFiles) -> None:
    drawn = flow(finished)
    counts = nodes(drawn)
    assert drawn is not None
    for name, number in counts.items():
        entering = sum(link.number for link in drawn.links if link.target == name)
        assert entering in (0, number), name
    accepted = sum(1 for _ in finished.accepted("instructions"))
    assert counts["instructions"] == accepted
    assert counts["responses"] == sum(1 for _ in finished.accepted("responses"))
    leaving = [link for link in drawn.links if link.source == "instructions"]
    again = next(i for i, link in enumerate(leaving) if link.again)
    held_out = next(link.number for link in leaving if link.target == "held out")
    assert sum(link.number for link in leaving[:again]) + held_out == accepted


def test_bands_leave_and_reach_their_bars_within_them(finished: RunFiles) -> None:
    drawn = flow(finished)
    assert drawn is not None
    drawing = sankey(drawn)
    assert len(drawing.bands) == len(drawn.links)
    for one, other in zip(drawing.boxes, drawing.boxes[1:], strict=False):
        if one.x == other.x:
            assert one.y + max(one.height, 30) <= other.y, "labels of two bars do not run into each other"
    assert all(box.y + box.height <= drawing.height and box.x < drawing.width for box in drawing.boxes)


def test_the_rare_filters_of_a_stage_are_drawn_as_one(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    rejected = [
        record("instructions", 100 + i, "no", verdict=Verdict.reject(f"filter {i % 6}", "because")) for i in range(12)
    ]
    write_records(path / "rejected/instructions.jsonl", rejected)
    drawn = flow(read_run(path))
    outs = [node for node in drawn.nodes if node.name.startswith("instructions/")] if drawn else []
    assert [node.number for node in outs] == [2, 2, 2, 6]
    assert (outs[-1].label, outs[-1].detail) == ("other filters", "filter 3 2, filter 4 2, filter 5 2")


# --------------------------------------------------------------------------------------------------- verbs and objects


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Write a short story about a dog.", ("write", "story")),
        ("Please list three benefits of sleep", ("list", "benefit")),
        ("Can you give me some tips for studying?", ("give", "tip")),
        ("The sky is blue. Describe the water cycle.", ("describe", "cycle")),
        ("Explain how vaccines work.", None),
        ("What is the capital of France?", None),
        ("Translate the following sentences into Latin: salve", ("translate", "sentence")),
        ("漢字", None),
        ("", None),
    ],
)
def test_a_command_s_verb_and_object_are_guessed(text: str, pair: tuple[str, str] | None) -> None:
    assert verb_and_object(text) == pair


def test_a_guess_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign.report.verbs.installed_parser", lambda: None)
    path = write_run(tmp_path / "run")
    texts = ["Write a story.", "Write an essay.", "Write a story!", "Name two trees.", "Why?"]
    write_records(path / "instructions.jsonl", [record("instructions", i, text) for i, text in enumerate(texts)])
    found = verbs(read_run(path))
    assert found is not None and found.is_guess
    assert (found.parsed, found.with_object, found.kinds) == (5, 4, 3)
    assert found.rows == [VerbUse("write", 3, [("story", 2), ("essay", 1)]), VerbUse("name", 1, [("tree", 1)])]
    text = Page(build_report(path)).text
    assert "guessed from word order" in text
    assert "python -m spacy download en_core_web_sm" in text


def test_a_parse_gives_the_root_verb_and_its_object() -> None:
    spacy = pytest.importorskip("spacy", reason="pip install 'selfalign[report]'")
    from spacy.tokens import Doc

    def parse(text: str, heads: list[int], deps: list[str], tags: list[str], lemmas: list[str]) -> Any:
        return Doc(spacy.blank("en").vocab, text.split(), heads=heads, deps=deps, pos=tags, lemmas=lemmas)

    command = parse(
        "Write two stories", [0, 2, 0], ["ROOT", "nummod", "dobj"], ["VERB", "NUM", "NOUN"], ["write", "two", "story"]
    )
    question = parse("Why now", [0, 0], ["ROOT", "advmod"], ["ADV", "ADV"], ["why", "now"])
    assert root_pair(command) == ("write", "story")
    assert root_pair(question) is None

    class Parser:
        def pipe(self, texts: list[str]) -> list[Any]:
            return [command, question, command][: len(texts)]

    assert list(parsed(Parser(), ["a", "b", "c"])) == [("write", "story")] * 2


def test_the_rings_are_divided_by_share() -> None:
    arcs = sunburst([VerbUse("write", 3, [("story", 2)]), VerbUse("name", 1, [("tree", 1)])], 9)
    assert [(arc.ring, arc.label) for arc in arcs] == [
        ("inner", "write"),
        ("outer", "story"),
        ("inner", "name"),
        ("outer", "tree"),
    ]
    radius = (MIDDLE + 1.5 + OUTER) / 2
    assert (arcs[1].x, arcs[1].y) == (pytest.approx(radius * math.sin(math.pi / 2)), pytest.approx(0, abs=1e-9))
    assert arcs[0].colour != arcs[2].colour and arcs[0].tip == "write: 3 of 9"
    assert fitting("interpretation", 20, 72) == "interpreta…" and fitting("x", 5, 72) == ""
    (whole,) = sunburst([VerbUse("write", 3, [])], 3)
    assert whole.path.count("A") == 2 and "nan" not in whole.path


# ------------------------------------------------------------------------------------ types, lengths, novelty, spending


def test_principles_and_topics_are_counted_by_type(finished: RunFiles) -> None:
    found = by_type(finished)
    assert found is not None
    records = list(finished.accepted("responses"))
    for row in found.rows:
        of_type = [record for record in records if (record.type or ALONE) == row.name]
        assert row.responses == len(of_type)
        for (number, _), cell in zip(found.principles, row.cells, strict=True):
            assert cell.number == sum(number in record.principles for record in of_type)
            assert (cell.shade == 0) == (cell.number == 0) and cell.shade <= 5
    guided = sum(bool(record.topic) for record in finished.accepted("instructions"))
    assert sum(topic.number for row in found.rows for topic in row.topics) == guided
    assert found.topics == sum(1 for _ in finished.accepted("topics"))
    assert found.rows[-1].name == ALONE and not found.rows[-1].topics


def test_lengths_are_told_by_quantiles_over_one_axis() -> None:
    from collections import Counter

    counts = Counter({1: 1, 10: 8, 500: 1})
    report = distributions({"short": counts, "long": Counter({900: 2})})
    short, long = report.rows
    assert (short.low, short.median, short.high, short.longest, short.texts) == (1, 10, 10, 500, 10)
    assert short.median_x < long.median_x < 100
    assert [words for _, words in report.axis] == [2**i for i in range(len(report.axis))]
    assert quantile(counts, 0.95) == 500
    assert "100,100" in short.points


def test_novelty_is_exact_for_what_is_measured() -> None:
    texts = ["write a story", "write a poem", "name two trees", "write a story now", "!!"]
    seeds = ["name a tree"]
    found = novelties(seeds, texts, [0, 1, 3, 4])
    for value, at in zip(found[:3], (0, 1, 3), strict=True):
        nearest = max(rouge_l(words(texts[at]), words(other)) for other in seeds + texts[:at])
        assert value == pytest.approx(1 - nearest)
    assert found[3] == 1.0
    assert spread(5, 400) == [0, 1, 2, 3, 4] and spread(1000, 3) == [0, 500, 999]


def test_the_novelty_of_a_run_is_drawn(finished: RunFiles) -> None:
    found = novelty(finished)
    assert found is not None
    assert found.measured == found.instructions == len(found.dots)
    assert found.limit == pytest.approx(0.3)
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in found.dots)


def test_money_is_told_where_the_recipe_has_a_price(finished: RunFiles) -> None:
    rows = stage_rows(finished)
    plain, priced = spending(rows, ""), spending(rows, "price: {completion: 1000000, currency: EUR}")
    assert plain is not None and plain.cost is None and priced is not None
    assert (priced.cost, priced.currency) == (sum(row.completion_tokens or 0 for row in rows), "EUR")
    assert sum(row.completion_share for row in priced.rows) == pytest.approx(1)


# ------------------------------------------------------------------------------------------------------------ explorer


def test_the_records_of_a_run_are_all_in_its_page(finished: RunFiles) -> None:
    page = Page(build_report(finished.path))
    told = json.loads(page.scripts[0])
    stages = ("topics", "instructions", "responses", "elaborations")
    files = [(name, records) for name in stages for records in (finished.accepted(name), finished.rejected(name))]
    wanted = {record.key: (name, record) for name, records in files for record in records}
    assert {row["k"] for row in told["records"]} == set(wanted)
    for row in told["records"]:
        name, found = wanted[row["k"]]
        assert told["stages"][row["s"]] == name
        assert (row.get("a", ""), row.get("h", "")) == (found.assistant, found.thought)
        assert row.get("f", "") == found.verdict.filter
        parent = wanted.get(row.get("p", ""))
        assert row.get("u") or not found.user or (parent and parent[1].user == found.user)


def test_a_long_run_is_drawn_from_so_that_families_stay_together(finished: RunFiles) -> None:
    drawn = explorer(finished, most=20)
    assert drawn is not None and 0 < drawn.shown < drawn.total
    rows = json.loads(drawn.data)["records"]
    stages = json.loads(drawn.data)["stages"]
    keys = {row["k"] for row in rows}
    for row in rows:
        if stages[row["s"]] in ("instructions", "responses", "elaborations") and row.get("p"):
            assert row["p"] in keys
    again = explorer(finished, most=20)
    assert again == drawn


def test_the_examples_told_of_an_instruction_are_those_of_its_prompt() -> None:
    constitution = small_constitution()
    options = InstructionsOptions(shots=2)
    topics = [Record("0" * 20, "topics", type=constitution.instruction_types[0].name, topic="Sea")]
    stage = InstructionsStage(context("instructions", options, constitution), options, topics)
    for jobs, kind, texts in (
        (stage._topic_guided(), "a type", [kind.seed.instruction for kind in constitution.instruction_types]),
        (stage._self_instruct(), "", [seed.instruction for seed in constitution.seeds]),
    ):
        job = next(jobs)
        assert isinstance(job, Job)
        prompt = next(job.steps).prompt
        made = stage.context.record(job.key(0), type=kind)
        shown = examples(made, constitution, options.shots)["e"]
        places = [prompt.index(texts[at]) for at in shown]
        assert len(shown) == min(2, len(texts)) and places == sorted(places)


def test_the_built_in_seeds_are_enough_for_the_default_shots() -> None:
    constitution = load_constitution("dromedary")
    made = Record("ab" * 10, "instructions", seed=7, engine={"kind": "scripted"})
    assert len(examples(made, constitution, 5)["e"]) == 5
    assert examples(Record("ab" * 10, "responses", seed=7, engine={"kind": "x"}), constitution, 5) == {}


# ------------------------------------------------------------------------------------------------------------ two runs


def test_the_interval_of_a_difference_is_newcombe_s() -> None:
    # Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10.
    low, high = difference_of_shares(48, 80, 56, 70)
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs: the second has other settings, fewer responses, and one answer that differs."""
    folder = tmp_path_factory.mktemp("two")
    first, second = write_run(folder / "first"), write_run(folder / "second")
    (second / "recipe.yaml").write_text("base_model: smollm2-135m\nseed: 8\nresponses: {top_p: 0.5}\n")
    manifest = json.loads((second / "run.json").read_text())
    manifest["stages"]["responses"] |= {"accepted": 60, "rejected": {"citations": 113, "repetition": 4}}
    (second / "run.json").write_text(json.dumps(manifest))
    asked = "A question alone"
    for path, answer in ((first, "One <b>answer</b>."), (second, "Another answer.")):
        write_records(path / "responses.jsonl", [record("responses", 1, asked, answer, principles=(2,))])
    return first, second


def test_two_runs_are_held_against_each_other(two: tuple[Path, Path], tmp_path: Path) -> None:
    path = write_comparison(*two, tmp_path / "versus.html")
    page = Page(path)
    assert page.open == [] and not page.tags & {"script", "img", "link", "form"}
    assert "first and second" in page.text
    assert "responses.top_p – 0.5" in page.text and "seed 7 8" in page.text
    assert "responses 85% 34% -50.8 points -58.8 to -41.4 lower" in page.text, "150 of 177, 60 of 177"
    assert "instructions 76% 76% +0.0 points" in page.text and "within noise" in page.text
    assert "citations 13% 64%" in page.text
    assert "2 informative 100% 100% +0.0 points -79.3 to +79.3 within noise" in page.text
    assert "One <b>answer</b>." in page.text and "Another answer." in page.text
    assert "responses, A" in page.text and "responses, B" in page.text


def test_a_run_is_not_held_against_itself_and_the_page_has_a_place(two: tuple[Path, Path]) -> None:
    first, second = two
    with pytest.raises(UserError, match="are one run"):
        write_comparison(first, first / ".." / "first")
    with pytest.raises(UserError, match="is a directory"):
        write_comparison(first, second, second)
    assert write_comparison(first, second) == first / "report-against-second.html"


def test_a_run_that_has_only_begun_is_held_against_one_that_is_done(two: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/run.json").write_text('{"base_model": "m", "stages": {}}', encoding="utf-8")
    for pair in ((tmp_path / "begun", two[0]), (two[0], tmp_path / "begun")):
        assert "No accepted instruction stands in both runs." in Page(write_comparison(*pair, tmp_path / "v.html")).text
