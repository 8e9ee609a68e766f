"""Every stage driven by hand: jobs are pulled and sent text, without engine or files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest

from selfalign.constitution.rendering import ASSISTANT, INSTRUCTION, STOP_AT_HEADING, STOP_REPLY, THOUGHT, USER
from selfalign.engines.base import Completion, Request
from selfalign.filters.leaks_constitution import leak_finder
from selfalign.pipeline.elaborations import ElaborationsStage, cut_to_sentence
from selfalign.pipeline.held_out import HeldOutStage, split_held_out, summarise
from selfalign.pipeline.instructions import InstructionsStage, instruction_of, interleave
from selfalign.pipeline.responses import ResponsesStage
from selfalign.pipeline.stage import SMALLEST_WAVE, Barrier, Job, Refused
from selfalign.pipeline.topics import TopicsStage
from selfalign.recipe import (
    ElaborationsOptions,
    EvaluateOptions,
    InstructionsOptions,
    ResponsesOptions,
    TopicsOptions,
)
from selfalign.records import Record, Tokens, Verdict, seed_of
from tests.constitution.small import changes
from tests.support.runs import context, small_constitution

COST = Tokens(10, 3)
THINKS = "A greeting is friendly, so 1 (ethical) is easily met."
REPLIES = "The kettle sits on the left of the old stove."


def talk(job: Job, *texts: str | tuple[str, str]) -> tuple[list[Request], list[Record]]:
    """The requests and the candidates of a job that is sent these texts; a pair brings its finish reason."""
    requests = [next(job.steps)]
    for place, text in enumerate(texts):
        content, reason = text if isinstance(text, tuple) else (text, "stop")
        try:
            requests.append(job.steps.send(Completion(requests[-1].key, content, reason, COST)))  # type: ignore[arg-type]
        except StopIteration as returned:
            assert place == len(texts) - 1, "the job ended before all was said"
            return requests, returned.value
    raise AssertionError(f"the job asks for more: {requests[-1]}")


def until_barrier(jobs: Iterator[Job | Barrier]) -> list[Job]:
    """The jobs before the next barrier."""
    found = []
    for job in jobs:
        if isinstance(job, Barrier):
            break
        found.append(job)
    return found


def judged(stage: TopicsStage | InstructionsStage, candidates: list[Record]) -> list[Verdict]:
    """The verdicts, in order; the stage is told of what it accepts, as the runner does."""
    verdicts = []
    for candidate in candidates:
        verdicts.append(stage.judge(candidate))
        if verdicts[-1].accepted:
            stage.accept(candidate)
    return verdicts


def asked(content: str, key: str = "abc", **fields: str) -> Record:
    """An instruction."""
    return Record(key, "instructions", ({"role": "user", "content": content},), **fields)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- topics


def topics_stage(**options: int) -> TopicsStage:
    settings = TopicsOptions(**options)  # type: ignore[arg-type]
    return TopicsStage(context("topics", settings), settings)


def test_a_brainstorm_gives_a_candidate_a_topic() -> None:
    stage = topics_stage()
    job = until_barrier(stage.jobs())[1]
    (request,), candidates = talk(job, " Prices\n3. Discounts\n4. Coins")
    assert request.prompt.endswith("\n\n1. Shop\n2.")
    assert "questions that require sums" in request.prompt
    assert request.sampling.stop == ("\n\n", "\n#")
    assert [(row.type, row.topic) for row in candidates] == [
        ("sums", "Prices"),
        ("sums", "Discounts"),
        ("sums", "Coins"),
    ]
    assert [row.key for row in candidates] == [job.key(0), job.key(1), job.key(2)]
    assert [row.seed for row in candidates] == [seed_of(row.key) for row in candidates]
    assert [row.tokens for row in candidates] == [COST, Tokens(), Tokens()]  # the cost is counted once
    assert all(row.stage == "topics" and row.engine == {"kind": "scripted"} for row in candidates)


def test_a_cut_list_loses_its_last_topic_and_an_empty_one_is_a_rejected_candidate() -> None:
    first, second = until_barrier(topics_stage().jobs())[:2]
    _, candidates = talk(first, (" Prices\n3. Disco", "length"))
    assert [row.topic for row in candidates] == ["Prices"]
    stage = topics_stage()
    _, candidates = talk(second, (" Disco", "length"))
    assert [verdict.filter for verdict in judged(stage, candidates)] == ["topic_form"]


def test_topics_are_new_case_folded_and_over_all_types_and_balanced() -> None:
    stage = topics_stage(per_type=3)
    first, second, *_ = until_barrier(stage.jobs())
    _, candidates = talk(first, " Flour\n3. FLOUR\n4. shop\n5. Shop\n6. Weir\n7. Wheel")
    reasons = [verdict.filter for verdict in judged(stage, candidates)]
    assert reasons == ["", "duplicate_topic", "topic_form", "duplicate_topic", "", "balance"]
    _, candidates = talk(second, " flour mill\n3. WEIR\n4. Straße\n5. STRASSE")
    reasons = [verdict.filter for verdict in judged(stage, candidates)]
    assert reasons == ["topic_form", "duplicate_topic", "", "duplicate_topic"]
    assert stage.judge(replace(candidates[2], type="knowledge of the Mill", topic="Dam")).value == 3


def test_rounds_go_on_for_the_types_that_lack_topics_and_show_them_what_is_there() -> None:
    stage = topics_stage(per_type=2, rounds=2, hints=10)
    jobs = stage.jobs()
    first = until_barrier(jobs)
    assert [job.index for job in first] == [0, 1, 2, 3, 4]
    for job in first[:3]:
        judged(stage, talk(job, f" Topic {job.index}")[1])
    second = until_barrier(jobs)
    assert [job.index for job in second] == [8, 9]  # art and sport, numbered on
    assert until_barrier(jobs) == []
    stage = topics_stage(per_type=4, rounds=2, hints=2)
    jobs = stage.jobs()
    judged(stage, talk(until_barrier(jobs)[0], " Flour\n3. Weir")[1])
    (request,), _ = talk(until_barrier(jobs)[0], "")
    assert request.prompt.endswith("\n3.")  # two hints of the three
    assert len({"Mill", "Flour", "Weir"} & set(request.prompt.split())) == 2


def test_the_goal_of_topics_leaves_out_the_humans_own() -> None:
    assert topics_stage(per_type=3).goal == 10
    assert until_barrier(topics_stage(per_type=1).jobs()) == []


# ---------------------------------------------------------------------------------------------------- instructions

TOPICS = [
    Record("t1", "topics", type="sums", topic="Prices"),
    Record("t2", "topics", type="sums", topic="Coins"),
    Record("t3", "topics", type="art", topic="Frames"),
]


def instructions_stage(topics: list[Record] | None = None, **options: float) -> InstructionsStage:
    settings = InstructionsOptions(**{"topic_guided": 2, "self_instruct": 1, **options})  # type: ignore[arg-type]
    return InstructionsStage(context("instructions", settings), settings, TOPICS if topics is None else topics)


def test_pairs_take_one_topic_of_every_type_in_turn() -> None:
    assert [row.key for row in interleave(TOPICS)] == ["t1", "t3", "t2"]
    assert interleave([]) == []
    jobs = list(islice(instructions_stage().jobs(), 5))
    parents = [talk(job, "Say it.")[1][0].parents for job in jobs if isinstance(job, Job)]
    assert parents == [("t1",), ("t3",), ("t2",), ("t1",), ("t3",)]


def test_a_topic_guided_instruction_names_its_pair() -> None:
    job = until_barrier(instructions_stage().jobs())[1]
    (request,), (candidate,) = talk(job, "Why do gilded frames  crack in winter?\n")
    assert request.prefix == "Instructions for Ada.\n"
    assert request.prompt.endswith("\n### Topic\nFrames\n### Kind\ninstructions that require art\n### Instruction\n")
    assert request.prompt.count("### Topic\n") == 6  # five shots and the open one
    assert request.sampling.stop == (STOP_AT_HEADING, "\n\n")
    assert (candidate.type, candidate.topic, candidate.parents) == ("art", "Frames", ("t3",))
    assert candidate.messages == ({"role": "user", "content": "Why do gilded frames  crack in winter?"},)
    assert (candidate.key, candidate.tokens) == (job.key(0), COST)


def test_a_self_instruct_task_joins_instruction_and_input() -> None:
    jobs = until_barrier(instructions_stage([]).jobs())
    (request,), (candidate,) = talk(jobs[0], "Count the\n\nherons here.\n### Input\nOne heron.\n\nTwo herons.")
    assert request.prefix == "Tasks for Ada.\n"
    assert request.prompt.endswith(f"\n\n### Task 6\n{INSTRUCTION}")
    assert candidate.user == "Count the\nherons here.\n\nOne heron.\n\nTwo herons."
    assert instruction_of(candidate) == "Count the\nherons here."
    assert (candidate.type, candidate.topic, candidate.parents) == ("", "", ())
    _, (candidate,) = talk(jobs[1], "Count the herons here.\n### Input\n(no input)\n")
    assert candidate.user == "Count the herons here."


def test_waves_stop_at_the_goals() -> None:
    stage = instructions_stage(topic_guided=10, self_instruct=3)
    jobs = stage.jobs()
    first = until_barrier(jobs)
    assert len(first) == 10
    accept(stage, first[:9])
    second = until_barrier(jobs)  # one is wanted; a wave has 8 jobs at least
    assert [job.index for job in second] == list(range(10, 10 + SMALLEST_WAVE))
    accept(stage, second[:2])
    assert stage.counts == {"topic_guided": 11, "self_instruct": 0}
    third = until_barrier(jobs)
    assert [job.index for job in third] == list(range(SMALLEST_WAVE))
    accept(stage, third[:3])
    assert until_barrier(jobs) == []
    assert (stage.goal, stage.counts) == (13, {"topic_guided": 11, "self_instruct": 3})


WORDS = (
    "amber", "birch", "cedar", "dahlia", "elder", "fennel", "ginger",
    "hazel", "iris", "juniper", "kale", "laurel", "mallow", "nettle",
)  # fmt: skip


def accept(stage: InstructionsStage, jobs: list[Job]) -> None:
    """Give each job an instruction that is new."""
    for job in jobs:
        word = WORDS[sum(stage.counts.values())]
        _, candidates = talk(job, f"{word.title()} {word}s {word}ly {word}ness")
        assert [verdict.filter for verdict in judged(stage, candidates)] == [""]


def test_self_instruct_alone_where_there_are_no_topics_or_none_is_wanted() -> None:
    assert instructions_stage([]).goal == 1
    for stage in (instructions_stage([]), instructions_stage(topic_guided=0)):
        job = next(stage.jobs())
        assert isinstance(job, Job)
        assert "### Task 6" in next(job.steps).prompt


@pytest.mark.parametrize(
    ("text", "filter"),
    [
        ("Why do herons stand on one leg?", ""),
        ("Add one and one", "novelty"),  # a seed instruction
        ("What does the old Mill make?", "novelty"),  # that of a type
        ("", "unparsable"),
        ("### Kind\nsums", "unparsable"),
        (("Why do herons stand on one", "length"), "truncated"),
        ("Tell me more.", "length"),
        ("¡" + "very " * 200, "length"),
        ("- why do herons stand on one leg?", "start"),
        ("Draw a heron that stands on one leg.", "text_only"),
        ("Say what is wrong here.\n### Input\nSee the attached photo.", "text_only"),
    ],
)
def test_instructions_are_judged(text: str | tuple[str, str], filter: str) -> None:
    stage = instructions_stage([])
    _, candidates = talk(until_barrier(stage.jobs())[0], text)
    (verdict,) = judged(stage, candidates)
    assert (verdict.filter, verdict.accepted) == (filter, not filter)
    assert bool(verdict.reason) == bool(filter)


def test_novelty_holds_against_what_was_accepted_and_not_against_what_was_not() -> None:
    stage = instructions_stage([])
    texts = ["Why do herons stand?", "Name the birds, herons stand on one", "Why do the herons stand?"]
    jobs = until_barrier(stage.jobs())
    verdicts = [
        judged(stage, talk(job, (text, "length") if i == 1 else text)[1])[0]
        for i, (job, text) in enumerate(zip(jobs, texts, strict=False))
    ]
    assert [verdict.filter for verdict in verdicts] == ["", "truncated", "novelty"]
    assert verdicts[2].value == pytest.approx(8 / 9)
    assert "Why do herons stand?" in verdicts[2].reason


# ------------------------------------------------------------------------------------------------------- responses


def responses_jobs(*instructions: Record, **options: object) -> list[Job]:
    settings = ResponsesOptions(**options)  # type: ignore[arg-type]
    stage = ResponsesStage(context("responses", settings), settings, instructions)
    assert stage.goal == len(instructions)
    return until_barrier(stage.jobs())


def test_a_response_is_a_thought_and_then_a_reply() -> None:
    instruction = asked("Where is the kettle?", type="sums", topic="Coins")
    (job,) = responses_jobs(instruction, max_tokens=99, thought_tokens=33, logit_bias={"Sorry": -100})
    requests, (record,) = talk(job, f" {THINKS}\n", f"{REPLIES}\n")
    first, second = requests
    assert first.prompt == f"\n{USER}Where is the kettle?\n{THOUGHT}"
    assert second.prompt == f"{first.prompt}{THINKS}\n{ASSISTANT}"
    assert first.prefix == second.prefix and "2 (balanced & fair). Sides are heard." in first.prefix
    assert (first.sampling.stop, first.sampling.max_tokens, first.sampling.logit_bias) == (("\n",), 33, {})
    assert (second.sampling.stop, second.sampling.max_tokens) == (STOP_REPLY, 99)
    assert second.sampling.logit_bias == {"Sorry": -100}
    assert first.seed != second.seed and first.key != second.key
    assert record.messages == (instruction.messages[0], {"role": "assistant", "content": REPLIES})
    assert (record.thought, record.principles) == (THINKS, (1,))
    assert (record.parents, record.type, record.topic) == (("abc",), "sums", "Coins")
    assert (record.key, record.seed) == (job.key(0), seed_of(job.key(0)))
    assert record.tokens == Tokens(20, 6)
    assert record.verdict.accepted


def test_a_second_attempt_only_after_a_rejected_first_and_both_are_records() -> None:
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=3)
    requests, candidates = talk(job, THINKS, "No.", THINKS, REPLIES)
    assert [row.verdict.filter for row in candidates] == ["too_short", ""]
    assert [row.key for row in candidates] == [job.key(0), job.key(1)]
    assert [row.assistant for row in candidates] == ["No.", REPLIES]
    assert len({request.seed for request in requests}) == len({request.key for request in requests}) == 4


def test_the_last_attempt_may_fail_too() -> None:
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=2)
    _, candidates = talk(job, THINKS, "No.", THINKS, "")
    assert [row.verdict.filter for row in candidates] == ["too_short", "no_response"]
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=1)
    assert len(talk(job, THINKS, "No.")[1]) == 1


def test_an_attempt_that_the_engine_refuses_is_the_last_and_loses_none_before_it() -> None:
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=3)
    request = next(job.steps)
    for text in (THINKS, "No.", THINKS):
        request = job.steps.send(Completion(request.key, text, "stop", COST))
    with pytest.raises(StopIteration) as ended:
        job.steps.throw(Refused("the prompt has 9 tokens, the context holds 8"))
    first, second = ended.value.value
    assert (first.verdict.filter, second.verdict.filter) == ("too_short", "engine")
    assert second.verdict.reason == "the prompt has 9 tokens, the context holds 8"
    assert (second.key, second.user) == (job.key(1), "Where is the kettle?")


@pytest.mark.parametrize(
    ("thought", "filter"),
    [
        ("", "thought_form"),
        ("1 (ethical)", "thought_form"),
        ((THINKS, "length"), "unfinished"),
        ("The kettle is easily found by looking.", "cites_principle"),
        ("By rule 9 the kettle is easily found.", "cites_principle"),
        ("A matter of taste, so 1 (ethical) applies, and 2 (balanced & fair) always does.", "copies_exemplar"),
    ],
)
def test_a_thought_that_fails_asks_for_no_reply(thought: str | tuple[str, str], filter: str) -> None:
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=2)
    requests, (first, second) = talk(job, thought, THINKS, REPLIES)
    assert [request.key.split("/")[1] for request in requests] == ["thought", "thought", "reply"]
    assert first.verdict.filter == filter
    assert [message["role"] for message in first.messages] == ["user"]
    assert (first.tokens, second.tokens) == (COST, Tokens(20, 6))
    assert second.verdict.accepted


@pytest.mark.parametrize(
    ("reply", "filter"),
    [
        (" \n", "no_response"),
        ("Left of it.", "too_short"),
        (("The kettle sits on the left of", "length"), "unfinished"),
        (REPLIES + " It hums a low tune there." * 8, "repetition"),
        ("It is not here. It is not here. It is not here.", "repetition"),
        ("Where is the kettle? Where is the kettle then?", "repeats_instruction"),
        (f"As 1 (ethical) asks, {REPLIES}", "mentions_rules"),
        ("Both have friends. Says Ada, yes.", "copies_exemplar"),
    ],
)
def test_replies_are_judged(reply: str | tuple[str, str], filter: str) -> None:
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=1)
    _, (record,) = talk(job, THINKS, reply)
    assert record.verdict.filter == filter
    assert record.verdict.reason


def test_a_thought_goes_on_from_the_constitutions_opening() -> None:
    text = changes(
        ('  exemplars: "{{ name | upper }} at work."', "  exemplars: At work.\n  thought_opening: Principles"),
        ("A matter of taste, so 2", "Principles matter, so 2"),
    )
    settings = ResponsesOptions(attempts=1)
    ground = context("responses", settings, small_constitution(text))
    (job,) = until_barrier(ResponsesStage(ground, settings, [asked("Where is the kettle?")]).jobs())
    (first, second), (record,) = talk(job, "1 (ethical) is easily met here.\n", REPLIES)
    assert first.prompt == f"\n{USER}Where is the kettle?\n{THOUGHT}Principles"
    assert record.thought == "Principles 1 (ethical) is easily met here."
    assert second.prompt == f"\n{USER}Where is the kettle?\n{THOUGHT}{record.thought}\n{ASSISTANT}"
    assert record.verdict.accepted


def test_a_reply_that_only_ends_in_circles_is_cut_and_kept() -> None:
    (job,) = responses_jobs(asked("Where is the kettle?"), attempts=1)
    _, (record,) = talk(job, THINKS, (f"{REPLIES} Tea leaves stand beside it. {REPLIES} {REPLIES}", "length"))
    assert record.verdict.accepted
    assert record.assistant == f"{REPLIES} Tea leaves stand beside it."


# ---------------------------------------------------------------------------------------------------- elaborations


def elaborations_jobs(*instructions: Record, **options: object) -> list[Job]:
    settings = ElaborationsOptions(**options)  # type: ignore[arg-type]
    return until_barrier(ElaborationsStage(context("elaborations", settings), settings, instructions).jobs())


def test_an_elaboration_is_asked_for_in_the_chat_format_under_the_verbose_style() -> None:
    instruction = asked("Where is the kettle?", type="sums", topic="Coins")
    (job,) = elaborations_jobs(instruction, ngram_penalties=(0, 0, 1, 2))
    (request,), (record,) = talk(job, (f"{REPLIES}\n", "eos"))
    assert request.chat_format and not request.prefix
    assert request.prompt == "A talk with Ada at length.\n\n### User\nWhere is the kettle?\n\n### Assistant\n"
    assert request.sampling.ngram_penalties == (0, 0, 1, 2)
    assert request.sampling.stop == ()
    assert record.messages == (instruction.messages[0], {"role": "assistant", "content": REPLIES})
    assert (record.parents, record.type, record.topic) == (("abc",), "sums", "Coins")
    assert (record.key, record.tokens, record.verdict.accepted) == (job.key(0), COST, True)


SHELF = [
    f"{side} {thing}" for side in ("behind a", "under the", "beside one") for thing in ("bowl", "jar", "pan", "tray")
]
LIST = [f"{i}. Cup {'abcdefghijklmnopqrstuvwxyzabcdefg'[i] * 3}" for i in range(1, 32)]


@pytest.mark.parametrize(
    ("text", "filter"),
    [
        (("", "eos"), "no_response"),
        (("Left.", "eos"), ""),  # short, and ended by the model itself
        (("Left. And then", "length"), "too_short"),
        ((f"On the left, {', '.join(SHELF)}, and", "eos"), ""),
        ((f"On the left, {', '.join(SHELF)}, and", "length"), "unfinished"),
        (("On the left", "length"), "unfinished"),
        ((REPLIES + " It hums a low tune there." * 30, "length"), "repetition"),
        (("\n".join(LIST), "eos"), "endless_list"),
        (("Where is the kettle? It is there.", "eos"), "repeats_instruction"),
        ((f"{REPLIES}\n\nSee also\nPots", "eos"), "leaks_style"),
        ((f"My guidelines require care. {REPLIES}", "eos"), "mentions_rules"),
    ],
)
def test_elaborations_are_judged(text: tuple[str, str], filter: str) -> None:
    (job,) = elaborations_jobs(asked("Where is the kettle?"))
    _, (record,) = talk(job, text)
    assert record.verdict.filter == filter


def test_an_elaboration_is_cut_at_its_lists_limit_and_at_a_sentence() -> None:
    jobs = elaborations_jobs(asked("Where?", "a"), asked("When?", "b"), max_list_items=12, min_words=4)
    _, (record,) = talk(jobs[0], ("Cups:\n" + "\n".join(LIST[:14]) + "\nThat is all.", "eos"))
    assert record.assistant == "Cups:\n" + "\n".join(LIST[:12])
    _, (record,) = talk(jobs[1], (f'{REPLIES} "It hums." And the', "length"))
    assert (record.assistant, record.verdict.accepted) == (f'{REPLIES} "It hums."', True)


def test_cut_to_sentence() -> None:
    assert cut_to_sentence("One. Two three") == "One."
    assert cut_to_sentence("Costs 3.50 here. And 4.") == "Costs 3.50 here. And 4."
    assert cut_to_sentence("- one\n- two\n- thr") == "- one\n- two"
    assert cut_to_sentence("She said “No.” And") == "She said “No.”"
    assert cut_to_sentence("no end at all") == "no end at all"


# -------------------------------------------------------------------------------------------------------- held out


def held_out_stage(variant: str, *instructions: Record) -> HeldOutStage:
    ground = context(f"evaluate/{variant}", EvaluateOptions())
    return HeldOutStage(ground, variant, instructions)  # type: ignore[arg-type]


def test_held_out_instructions_are_chosen_by_key_and_a_third_at_most() -> None:
    rows = [asked(f"Question {i}?", key=f"k{i}") for i in range(9)]
    training, held = split_held_out(rows, 2)
    assert len(held) == 2
    assert sorted(map(rows.index, training)) == list(map(rows.index, training))
    assert {row.key for row in training} | {row.key for row in held} == {row.key for row in rows}
    again = split_held_out(rows[::-1], 2)
    assert {row.key for row in again[1]} == {row.key for row in held}
    assert len(split_held_out(rows, 80)[1]) == 3
    assert [list(part) for part in split_held_out(rows[:2], 5)] == [rows[:2], []]


@pytest.mark.parametrize(("variant", "model"), [("base", "base"), ("engraved", "engraved"), ("final", "final")])
def test_a_bare_answer_sees_the_chat_format_and_nothing_else(variant: str, model: str) -> None:
    stage = held_out_stage(variant, asked("Where is the kettle?"))
    (job,) = until_barrier(stage.jobs())
    (request,), (record,) = talk(job, (" Left. ", "length"))
    assert (stage.name, stage.model, stage.goal) == (f"evaluate/{variant}", model, 1)
    standard = small_constitution().style("standard")
    assert request.prompt == f"{standard}\n\n### User\nWhere is the kettle?\n\n### Assistant\n"
    assert (record.assistant, record.parents, record.tokens) == ("Left.", ("abc",), COST)
    assert stage.judge(record) == Verdict(True, reason="length")  # everything is kept


def test_the_prompted_base_thinks_first_and_is_kept_whatever_it_thinks() -> None:
    stage = held_out_stage("base+principles", asked("Where is the kettle?"))
    (job,) = until_barrier(stage.jobs())
    requests, (record,) = talk(job, "Hm", "Left.")
    assert stage.model == "base"
    assert [request.sampling.stop for request in requests] == [("\n",), STOP_REPLY]
    assert (record.thought, record.assistant, record.tokens) == ("Hm", "Left.", Tokens(20, 6))
    assert record.verdict.accepted


def test_a_summary_counts_stops_leaks_and_words() -> None:
    questions = [asked("Where is the kettle?", "a"), asked("When?", "b")]
    rows = []
    texts = [("Left of it.", "eos"), ("By 1 (ethical), noon", "length")]
    for job, text in zip(until_barrier(held_out_stage("final", *questions).jobs()), texts, strict=True):
        rows += talk(job, text)[1]
    summary = summarise({"final": rows}, leak_finder(small_constitution()))
    expected = {"label": "final", "n": 2, "stopped": 1, "leaks": 1, "mean_words": 3.5}
    assert summary["variants"] == {"final": expected}
    assert [sample["key"] for sample in summary["samples"]] == ["a", "b"]
    answers = [sample["answers"]["final"] for sample in summary["samples"]]
    assert answers[0] == {"text": "Left of it.", "finish_reason": "eos", "leak": ""}
    assert "1 (ethical)" in answers[1]["leak"]


# --------------------------------------------------------------------------------------------------- keys and seeds


def test_keys_follow_from_stage_settings_parents_and_index() -> None:
    def key(
        stage: str = "responses", temperature: float = 0.5, parents: tuple[str, ...] = ("a",), index: int = 0
    ) -> str:
        options = ResponsesOptions(temperature=temperature)
        return context(stage, options).job(index, parents, lambda key: iter(())).key(0)  # type: ignore[arg-type,return-value]

    others = [key("topics"), key(temperature=0.6), key(parents=("b",)), key(parents=()), key(index=1)]
    assert key() == key()
    assert len({key(), *others}) == 6
