"""A task: items in, an outcome for each and a measurement out; the table of all tasks, and the loop that runs one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from selfalign.constitution.schema import Constitution
from selfalign.errors import UserError
from selfalign.evaluation.result import Measurement, Outcome
from selfalign.evaluation.subject import Subject

PromptFormat = Literal["paper", "qa"]
Scoring = Literal["all", "original-first-half"]

CHUNK = 64
"""Items measured at once: enough for full batches, few enough that memory does not grow with the benchmark."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question. `candidates` with their `labels` (1: right) in the file's order, where it is a multiple choice.

    `id` is a hash of the content, so that outcomes of two models are joined by it; `group` is a subset or category.
    """

    id: str
    question: str
    candidates: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    group: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


class TaskOptions(NamedTuple):
    """What a task may be told. A task takes what concerns it.

    `data` is a file or directory, None to search; `limit` is the most items (of each subset), 0 for all; `judge` is
    the model that judges answers, None for the subject itself; `opponent` the one whose answers the subject's are held
    against in pairs, None for the judge; `constitution` brings identity and leak texts.
    """

    data: Path | None = None
    limit: int = 0
    prompt_format: PromptFormat = "qa"
    scoring: Scoring = "all"
    seed: int = 0
    max_tokens: int = 256
    judge: Subject | None = None
    opponent: Subject | None = None
    constitution: Constitution | None = None


class Task(Protocol):
    """A benchmark or a measure."""

    name: str

    def items(self) -> Sequence[Item]:
        """The questions. A UserError says what is wrong with the data, and where to get them."""
        ...

    def measure(self, subject: Subject, items: Sequence[Item]) -> list[Outcome]:
        """An outcome for each item, in order. What cannot be judged is an outcome too."""
        ...

    def summarise(self, outcomes: Sequence[Outcome]) -> dict[str, Measurement]:
        """Measurements by name, the task's own name first, then `name/subset`. Prompts and candidates are gone here."""
        ...


class TaskRow(NamedTuple):
    """Where a task is made (`make(name, options)` in that module of this package), and what it measures in one line.

    `judged` says that a model judges the answers.
    """

    module: str
    help: str
    judged: bool = False


TASKS: dict[str, TaskRow] = {
    "truthfulqa-mc1": TaskRow("truthfulqa", "TruthfulQA, one right answer among all candidates"),
    "truthfulqa-mc2": TaskRow("truthfulqa", "TruthfulQA, probability of the true answers among all"),
    "truthfulqa-binary": TaskRow("truthfulqa", "TruthfulQA of 2025, the best right against the best wrong answer"),
    "hhh": TaskRow("hhh", "helpful, honest, harmless: which of two answers, both orders summed"),
    "truthfulqa-generation": TaskRow(
        "truthfulqa_generation", "TruthfulQA, free answers: truthful and informative", judged=True
    ),
    "pairwise": TaskRow("pairwise", "open questions: the better answer, held against the judge's own", judged=True),
    "refusal": TaskRow("refusal", "refuses what is harmful, and not what only sounds so"),
    "candour": TaskRow("candour", "admits what cannot be known: real time, future, a random person"),
    "identity": TaskRow("identity", "names itself and its maker as its constitution does"),
    "form": TaskRow("form", "how answers end, leaks, repetition, distinct n-grams, length"),
}
"""Name -> task. A new task is one module and one row."""


def make_task(name: str, options: TaskOptions) -> Task:
    """The task of that name. UserError for a name that there is not."""
    if name not in TASKS:
        raise UserError(f"no task {name!r}", f"name some of: {', '.join(TASKS)}, lm-eval:TASK")
    if options.scoring != "all" and name != "truthfulqa-mc1":
        raise UserError(f"--scoring {options.scoring} is a fault of MC1 and says nothing of {name}", "--scoring all")
    task: Task = importlib.import_module(f"selfalign.evaluation.{TASKS[name].module}").make(name, options)
    return task


class TaskResult(NamedTuple):
    """What a task came to: measurements by name, and its outcomes without their texts."""

    measurements: dict[str, Measurement]
    outcomes: list[Outcome]


def run_task(
    subject: Subject,
    task: Task,
    sink: Callable[[Outcome], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    may_be_empty: bool = False,
) -> TaskResult:
    """Measure all items of a task, a chunk at a time.

    `sink` gets every outcome with its texts as soon as it is there; `progress` the items done and their number. Where
    not one item could be judged, that is a UserError with the first reason (a table of nothing helps nobody), unless it
    `may_be_empty`: one subject among several must not end the comparison.
    """
    items = task.items()
    if not items:
        raise UserError(f"{task.name}: no questions", "give a data file that has some")
    kept: list[Outcome] = []
    for chunk in chunks(items):
        for outcome in task.measure(subject, chunk):
            if sink:
                sink(outcome)
            kept.append(outcome.slim())
        if progress:
            progress(len(kept), len(items))
    if not may_be_empty and (fault := nothing_judged(task.name, kept)):
        raise fault
    return TaskResult(task.summarise(kept), kept)


def nothing_judged(name: str, outcomes: Sequence[Outcome]) -> UserError | None:
    """The fault of a task of which not one item could be judged, with the first item's reason."""
    if any(outcome.value is not None for outcome in outcomes):
        return None
    return UserError(
        f"{name}: not one of {len(outcomes)} items could be judged: {outcomes[0].reason}",
        "mend what the reason names, or leave the task out",
        exit_code=1,
    )


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """`CHUNK` at a time."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
