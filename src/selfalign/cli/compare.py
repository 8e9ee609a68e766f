"""selfalign compare A B ...: everyone on the same questions, in pairs, with intervals."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.cli.eval import add_measuring_arguments, check, open_named, settings, split_tasks, task_options
from selfalign.cli.judges import has_weights, open_judge

if TYPE_CHECKING:
    from selfalign.constitution.schema import Constitution
    from selfalign.evaluation.comparison import Row
    from selfalign.evaluation.subject import Answer, Subject
    from selfalign.evaluation.task import Item, Task, TaskOptions, TaskResult
    from selfalign.evaluation.variants import Variant

    Found = dict[str, dict[str, TaskResult]]

PAIRWISE = "pairwise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign compare`."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="runs (all their stages) and models; the base is always added"
    )
    add_measuring_arguments(parser)


def main(options: argparse.Namespace) -> int:
    """Measure everyone, print figures and differences, and store them where asked."""
    import json

    from selfalign.evaluation.answers_in_pairs import verbosity_taxes
    from selfalign.evaluation.comparison import compare
    from selfalign.evaluation.comparison_table import comparison_table
    from selfalign.evaluation.store import check_output
    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.records import write_atomically

    tasks = own_tasks(options.tasks)
    check(options)
    if options.output:
        check_output(options.output)
    quiet_libraries()
    variants = participants(options)
    found, engines = measure(options, tasks, variants)
    rows, taxes = compare(found, seed=options.seed), verbosity_taxes(found, [v.name for v in variants], options.seed)
    summary = summary_of(options, variants, rows, taxes, engines)
    if options.output:
        write_atomically(options.output, json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    if options.json:
        print(json.dumps(summary, ensure_ascii=False))
        return 0
    print("\n\n".join([who(variants), comparison_table(summary["rows"]), *taxes]))
    return 0


def own_tasks(text: str) -> list[str]:
    """The tasks; those of lm-evaluation-harness give no outcomes by question, so nothing could be paired."""
    from selfalign.errors import UserError

    own, harness = split_tasks(text)
    if harness:
        raise UserError(
            f"lm-eval:{harness[0]} cannot be compared in pairs", f"selfalign eval MODEL --tasks lm-eval:{harness[0]}"
        )
    return own


def participants(options: argparse.Namespace) -> list[Variant]:
    """Everyone; models are told apart by their weights where the engine has any."""
    from selfalign.evaluation.variants import variants_of, weights_of

    return variants_of(options.models, weights_of if has_weights(options) else str)


def measure(
    options: argparse.Namespace, tasks: Sequence[str], variants: Sequence[Variant]
) -> tuple[Found, dict[str, Any]]:
    """Task -> variant -> result, and each variant's engine in words. One model is open at a time, beside the judge."""
    found: Found = {task: {} for task in tasks}
    answers: dict[str, list[Answer]] = {}
    engines: dict[str, Any] = {}
    constitutions = {variant.constitution: constitution_of(options, variant) for variant in variants}
    for task in tasks:  # what is wrong with the data is told before a model is loaded
        made(task, options, constitutions[variants[0].constitution]).items()
    with judging(options, tasks, variants, constitutions) as judge:
        for model, group in groupby(variants, key=lambda variant: variant.model):
            engine = open_named(options, model)
            try:
                for variant in group:
                    subject = subject_named(options, variant, engine, constitutions[variant.constitution])
                    engines[variant.name] = engine.describe()
                    measure_one(options, tasks, subject, constitutions[variant.constitution], judge, found, answers)
            finally:
                engine.close()
        if judge and PAIRWISE in tasks:
            items = made(PAIRWISE, options, constitutions[variants[0].constitution]).items()
            found[PAIRWISE] = pairs(options, judge, items, answers)
    return found, engines


def constitution_of(options: argparse.Namespace, variant: Variant) -> Constitution:
    """The run's, or the one that the options name."""
    from selfalign.constitution.loading import load_constitution

    return load_constitution(variant.constitution or options.constitution)


def made(task: str, options: argparse.Namespace, constitution: Constitution, judge: Subject | None = None) -> Task:
    """A task, told what the options say."""
    from selfalign.evaluation.task import make_task

    told: TaskOptions = task_options(options, constitution)
    return make_task(task, told._replace(judge=judge))


def subject_named(options: argparse.Namespace, variant: Variant, engine: Any, constitution: Constitution) -> Subject:
    """The variant on its engine."""
    from selfalign.evaluation.subject import subject_of

    return subject_of(variant.name, engine, constitution, options.style, variant.principled)


@contextmanager
def judging(
    options: argparse.Namespace,
    tasks: Sequence[str],
    variants: Sequence[Variant],
    constitutions: dict[str, Constitution],
) -> Iterator[Subject | None]:
    """The one judge of everybody: the model that is named, or else the base; None where no task needs one."""
    from selfalign.errors import UserError
    from selfalign.evaluation.subject import subject_of
    from selfalign.evaluation.task import TASKS

    if options.judge_url and not options.judge:
        raise UserError("--judge-url says where the judge is, and not which model it is", "add --judge MODEL")
    if not any(TASKS[task].judged for task in tasks):
        yield None
        return
    model = options.judge or variants[0].model
    engine = open_judge(options, model)
    try:
        yield subject_of(model, engine, constitutions[variants[0].constitution])
    finally:
        engine.close()


def measure_one(
    options: argparse.Namespace,
    tasks: Sequence[str],
    subject: Subject,
    constitution: Constitution,
    judge: Subject | None,
    found: Found,
    answers: dict[str, list[Answer]],
) -> None:
    """One subject in all tasks; for `pairwise` it only answers."""
    from selfalign.evaluation.answering import ask
    from selfalign.evaluation.progress import bar
    from selfalign.evaluation.task import run_task

    for name in tasks:
        task = made(name, options, constitution, judge)
        if name == PAIRWISE:
            answers[subject.name] = ask(subject, task.items(), options.max_tokens, options.seed)
            continue
        with bar(f"{name}, {subject.name}") as progress, sink(options.output, subject.name, name) as write:
            found[name][subject.name] = run_task(subject, task, write, progress, may_be_empty=True)


@contextmanager
def sink(output: Path | None, subject: str, task: str) -> Iterator[Any]:
    """What takes the outcomes: a file beside the summary, or nothing."""
    from selfalign.evaluation.store import file_name, items_folder, outcomes_at, outcomes_path

    if output is None:
        yield None
        return
    with outcomes_at(outcomes_path(items_folder(output) / file_name(subject), task)) as file:
        yield file.write


def pairs(
    options: argparse.Namespace, judge: Subject, items: Sequence[Item], answers: dict[str, list[Answer]]
) -> dict[str, TaskResult]:
    """Everybody's answers held against the base's."""
    from selfalign.evaluation.answers_in_pairs import against
    from selfalign.evaluation.comparison import BASE

    results = against(BASE, judge, items, answers, options.seed)
    for name, result in results.items():
        with sink(options.output, name, PAIRWISE) as write:
            for outcome in result.outcomes if write else ():
                write(outcome)
    return results


def summary_of(
    options: argparse.Namespace,
    variants: Sequence[Variant],
    rows: Sequence[Row],
    taxes: Sequence[str],
    engines: dict[str, Any],
) -> dict[str, Any]:
    """What `--output` writes."""
    from selfalign.pipeline.provenance import versions

    subjects = {variant.name: variant._asdict() | {"engine": engines[variant.name]} for variant in variants}
    return {
        "rows": [row.to_dict() for row in rows],
        "subjects": subjects,
        "verbosity_tax": list(taxes),
        "versions": versions(),
        "settings": settings(options),
    }


def who(variants: Sequence[Variant]) -> str:
    """Which model each name stands for."""
    lines = [
        f"{variant.name}: {variant.model}{', the rules and exemplars in its context' if variant.principled else ''}"
        for variant in variants
    ]
    return "\n".join(lines)
