"""selfalign eval MODEL."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.cli.judges import add_judge_arguments, judge_of, open_judge

if TYPE_CHECKING:
    from selfalign.constitution.schema import Constitution
    from selfalign.engines.base import Engine
    from selfalign.errors import UserError
    from selfalign.evaluation.store import Results
    from selfalign.evaluation.subject import Subject
    from selfalign.evaluation.task import Task, TaskOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign eval`."""
    parser.add_argument("model", help="a run, a model or adapter directory, a Hub id, or smollm2-135m")
    add_measuring_arguments(parser)
    parser.add_argument("--lm-eval-args", default="", metavar="ARGS", help="more arguments for lm-eval, in one string")


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that measures."""
    from selfalign.evaluation.task import TASKS

    parser.add_argument(
        "--tasks",
        required=True,
        metavar="T,...",
        help=f"{', '.join(TASKS)}, and lm-eval:TASK for any of lm-evaluation-harness's",
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="a data file, or a directory of them")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the first N questions (of each subset)")
    parser.add_argument(
        "--prompt-format",
        choices=["qa", "paper"],
        default="qa",
        help="TruthfulQA: six worked questions (default), or true or false for each candidate under the chat format",
    )
    parser.add_argument(
        "--scoring",
        choices=["all", "original-first-half"],
        default="all",
        help="original-first-half repeats a fault of the paper's script, to compare with the paper only",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="a .json file; every question goes beside it")
    parser.add_argument("--json", action="store_true", help="print what --output writes, not a table")
    add_judge_arguments(parser)
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N", help="longest generated answer (256)")
    parser.add_argument("--seed", type=int, default=0, help="draws candidates' order, ties and resamples")
    parser.add_argument("--style", choices=["standard", "concise", "verbose"], default="standard", help="system text")
    parser.add_argument("--constitution", default="dromedary", help="where the style is from (a run brings its own)")
    parser.add_argument("--engine", choices=["embedded", "vllm", "openai", "scripted"], default="embedded")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="the arithmetic")
    parser.add_argument("--base-url", metavar="URL", help="openai: where the server is")
    parser.add_argument("--script", default="", metavar="MODULE:FUNCTION", help="scripted: what answers")


def main(options: argparse.Namespace) -> int:
    """Measure, print, and store where asked."""
    import json

    from selfalign.evaluation.lm_eval import harness_python
    from selfalign.evaluation.store import check_output, write_summary
    from selfalign.evaluation.table import table
    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.pipeline.provenance import versions

    own, harness = split_tasks(options.tasks)
    faults: list[UserError] = []
    check(options)
    if options.output:
        check_output(options.output)
    if harness:
        harness_python()  # told before our own tasks take their minutes
    quiet_libraries()
    results: Results = {}
    facts: dict[str, Any] = {"versions": versions(), "settings": settings(options)}
    if own:
        facts["engine"] = measure(options, own, results, faults)
    if harness:
        facts["lm_eval"] = hand_over(options, harness, results, faults)
    if options.output:
        write_summary(options.output, results, options.model, facts)
    print(json.dumps({"results": results, "model": options.model, **facts}) if options.json else table(results))
    if faults:
        raise faults[0]
    return 0


def split_tasks(text: str) -> tuple[list[str], list[str]]:
    """Our tasks, and those of lm-evaluation-harness; after `lm-eval:` a name that is none of ours is the harness's."""
    from selfalign.errors import UserError
    from selfalign.evaluation.task import TASKS

    own: list[str] = []
    harness: list[str] = []
    for name in dict.fromkeys(part.strip() for part in text.split(",") if part.strip()):
        if name.startswith("lm-eval:") or (harness and name not in TASKS):
            harness.append(name.removeprefix("lm-eval:"))
        else:
            own.append(name)
    unknown = [name for name in own if name not in TASKS]
    if unknown or not own + harness:
        what = f"no task {unknown[0]!r}" if unknown else "--tasks names none"
        raise UserError(what, f"name some of: {', '.join(TASKS)}, lm-eval:TASK")
    return own, harness


def check(options: argparse.Namespace) -> None:
    """UserError for numbers that mean nothing."""
    from selfalign.errors import UserError

    if options.limit < 0 or options.max_tokens < 1 or options.seed < 0:
        raise UserError("--limit and --seed must be at least 0, --max-tokens at least 1", "selfalign eval --help")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    names = ("prompt_format", "scoring", "limit", "seed", "style", "dtype", "max_tokens", "judge")
    return {name: getattr(options, name) for name in names}


def measure(
    options: argparse.Namespace, names: Sequence[str], results: Results, faults: list[UserError]
) -> dict[str, Any]:
    """Run our tasks on the engine; the data are read before the model is loaded. Gives the engine's description.

    A task of which nothing could be judged is one of `faults`, and does not end the others.
    """
    from selfalign.constitution.loading import load_constitution
    from selfalign.evaluation.subject import subject_of
    from selfalign.evaluation.task import make_task

    resolved = Path(options.model) / "constitution.yaml"
    constitution = load_constitution(str(resolved) if resolved.is_file() else options.constitution)
    told = task_options(options, constitution)
    for name in names:
        make_task(name, told).items()
    judge_model = judge_of(options, names)
    engine = open_named(options, options.model)
    judge = open_judge(options, judge_model) if judge_model else None
    try:
        subject = subject_of(options.model, engine, constitution, options.style)
        if judge:
            told = told._replace(judge=subject_of(options.judge or f"base of {options.model}", judge, constitution))
        for name in names:
            results |= run_one(subject, make_task(name, told), options.output, faults)
        return engine.describe()
    finally:
        for opened in filter(None, (engine, judge)):
            opened.close()


def task_options(options: argparse.Namespace, constitution: Constitution) -> TaskOptions:
    """What the tasks are told."""
    from selfalign.evaluation.task import TaskOptions

    return TaskOptions(
        data=options.data,
        limit=options.limit,
        prompt_format=options.prompt_format,
        scoring=options.scoring,
        seed=options.seed,
        max_tokens=options.max_tokens,
        constitution=constitution,
    )


def open_named(options: argparse.Namespace, model: str) -> Engine:
    """The engine that the options name, with that model."""
    from selfalign.pipeline.engines import open_engine
    from selfalign.recipe import EngineOptions

    given = {"kind": options.engine, "dtype": options.dtype, "script": options.script}
    if options.base_url:
        given["base_url"] = options.base_url
    return open_engine(EngineOptions.model_validate(given), model)


def run_one(subject: Subject, task: Task, output: Path | None, faults: list[UserError]) -> Results:
    """One task with its bar, its outcomes written beside `output`; its rows of the results."""
    from contextlib import nullcontext

    from selfalign.evaluation.progress import bar
    from selfalign.evaluation.store import file_name, items_folder, outcome_file
    from selfalign.evaluation.task import nothing_judged, run_task

    with bar(task.name) as progress, outcome_file(output, task.name) if output else nullcontext() as file:
        result = run_task(subject, task, file.write if file else None, progress, may_be_empty=True)
    if fault := nothing_judged(task.name, result.outcomes):
        faults.append(fault)
    place = {"items": f"{items_folder(output).name}/{file_name(task.name)}.jsonl"} if output else {}
    return {name: measurement.to_dict() | place for name, measurement in result.measurements.items()}


def hand_over(
    options: argparse.Namespace, tasks: Sequence[str], results: Results, faults: list[UserError]
) -> dict[str, Any]:
    """Have lm-evaluation-harness run its own tasks on the model; gives what it says of itself.

    Where it fails that is one of `faults`: what our own tasks found is kept.
    """
    import shlex

    from selfalign.engines.embedded.loading import resolve_model
    from selfalign.errors import RunFailed
    from selfalign.evaluation.lm_eval import Harness, run_harness

    source = resolve_model(options.model)
    harness = Harness(source.base, source.adapter, source.tokenizer_path, options.dtype, options.limit)
    try:
        rows, facts = run_harness(harness, tasks, shlex.split(options.lm_eval_args))
    except RunFailed as fault:
        if not results:
            raise
        faults.append(fault)
        return {"failed": fault.message}
    results |= rows
    return facts
