"""Asking a model that was just trained what its gate needs to know: its answers to rows held out of the training.

Nothing is saved before all answers are there: a run killed in the gate asks again, and the same seeds answer alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.constitution.kept_thought import split_thought
from selfalign.engines.base import Completion, Engine
from selfalign.errors import RunFailed
from selfalign.filters.leaks_constitution import leak_finder
from selfalign.filters.leaks_style import RUN_WORDS
from selfalign.filters.words import all_runs, shared_run, words
from selfalign.pipeline.board import Board
from selfalign.pipeline.datasets import TrainingRow
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.progress import Progress, logger, say
from selfalign.pipeline.rounds import text_figures
from selfalign.pipeline.stage import Context
from selfalign.recipe import GateOptions
from selfalign.records import content_hash
from selfalign.training.gate import GATE, GateFigures, in_words, judge, mark, outcome


class Answer(NamedTuple):
    """A held-out row, what the model answered, and the text of the constitution found in that; empty where none."""

    row: TrainingRow
    completion: Completion
    leak: str


def pass_gate(
    state: StageState,
    open_context: Callable[[], Context],
    open_engine: Callable[[], Engine],
    held_out: Sequence[TrainingRow],
    options: GateOptions,
    directory: Path,
    board: Board | None = None,
) -> dict[str, Any] | None:
    """The outcome, marked in the model's `directory`; None, and a line that says so, where nothing can be asked.

    Answers that were measured under the same settings are judged again, not asked again: a threshold may change.
    """
    rows, name = held_out[: options.rows], f"gate of {directory.name}"
    if not rows:
        say(f"{name}: left out, {'gate.rows is 0' if held_out else 'there are no validation rows'}")
        return None
    sampling = options.model_dump(include={"temperature", "top_p", "max_tokens", "samples"})
    measured_with = content_hash([sampling, [row.key for row in rows]])
    gate = state.gate
    if gate is None or gate.get("measured_with") != measured_with:
        gate = measure(open_engine(), open_context(), rows, state.training or {}, options.samples, name, board)
    if not gate["rows"]:
        say(f"{name}: left out, the engine took none of {len(rows)} held-out rows")
        return None
    figures = GateFigures(**{field: gate[field] for field in GateFigures._fields if field in gate})
    gate = outcome(figures, judge(figures, options), gate["samples"]) | {"measured_with": measured_with}
    mark(directory, gate)
    say(f"{name}: {in_words(gate)}")
    return gate


def failed(stage: str, gate: dict[str, Any], run: Path, directory: Path) -> RunFailed:
    """What ends the run."""
    return RunFailed(
        f"{stage}: the model failed its gate: {gate['reason']}",
        f"read its answers in {directory / GATE}; train otherwise (selfalign run ... --out {run} --set "
        f"{stage}.learning_rate=...), or go on with it: --keep-going",
    )


def measure(
    engine: Engine,
    context: Context,
    rows: Sequence[TrainingRow],
    training: dict[str, Any],
    samples: int,
    name: str,
    board: Board | None = None,
) -> dict[str, Any]:
    """Figures and samples, not judged yet."""
    progress, start = Progress(name, len(rows), unit="answer", board=board), time.monotonic()
    try:
        answers = ask(engine, context, rows, leak_finder(context.constitution), progress.completion)
        progress.judged(len(answers), len(rows) - len(answers))
    finally:
        progress.close()
    logger.info("%s: %d answers in %.1f s", name, len(answers), time.monotonic() - start)
    for answer in answers[:samples]:
        logger.info(
            "%s: %r -> %r (%s)", name, question(answer.row), answer.completion.text, answer.completion.finish_reason
        )
    losses = training.get("validation_loss_before"), training.get("validation_loss")
    return figures(answers, *losses)._asdict() | {"samples": [sample(answer) for answer in answers[:samples]]}


def ask(
    engine: Engine,
    context: Context,
    rows: Sequence[TrainingRow],
    leak: Callable[[str, str], str],
    on_completion: Callable[[Completion], None],
) -> list[Answer]:
    """One sampled answer a row, in their order, in the chat format that the training used.

    A row that the engine refuses (its prompt fills the context) is left out: that says nothing of the training.
    """
    requests = [context.chat_request(key_of(context, row), row.messages[:-1], context.sampling()) for row in rows]
    completions = {}
    for completion in engine.generate(requests):
        on_completion(completion)
        completions[completion.key] = completion
    answers = []
    for row, request in zip(rows, requests, strict=True):
        completion = completions[request.key]
        if not completion.refusal:
            said = replace(completion, text=split_thought(completion.text).reply)  # a thought may cite principles
            answers.append(Answer(row, said, find_leak(row, said.text, context, leak)))
    return answers


def key_of(context: Context, row: TrainingRow) -> str:
    """The seed of an answer follows from the row and the stage, not from its place."""
    return content_hash([context.stage, context.recipe.seed, row.key])


def find_leak(row: TrainingRow, text: str, context: Context, leak: Callable[[str, str], str]) -> str:
    """A principle, an exemplar, or the style that the model was told."""
    found = leak(text, question(row))
    if found:
        return found
    constitution = context.constitution
    system = [message["content"] for message in row.messages if message["role"] == "system"]
    identity = all_runs((answer for _, answer in constitution.identity_pairs), RUN_WORDS)
    told = all_runs(system or [constitution.style("standard")], RUN_WORDS) - identity  # who it is, it is taught to say
    run = shared_run(words(text), told, RUN_WORDS)
    return f'{len(run)} words of the style: "{" ".join(run)}"' if run else ""


def question(row: TrainingRow) -> str:
    """The user turn that is answered."""
    return row.messages[-2]["content"]


def figures(answers: Sequence[Answer], loss_before: float | None, loss_after: float | None) -> GateFigures:
    """Counts over the answers, beside the losses that the training measured."""
    texts = text_figures(answer.completion.text for answer in answers)
    said = [answer.completion for answer in answers if answer.completion.text.strip()]
    return GateFigures(
        rows=len(answers),
        stopped=sum(completion.finish_reason != "length" for completion in said),
        leaks=sum(bool(answer.leak) for answer in answers),
        loss_before=loss_before,
        loss_after=loss_after,
        mean_words=texts.mean_words,
        variety=texts.variety,
        empty=len(answers) - len(said),
    )


def sample(answer: Answer) -> dict[str, Any]:
    """An answer to be read, beside the one that it was held out with."""
    return {
        "key": answer.row.key,
        "instruction": question(answer.row),
        "answer": answer.completion.text.strip(),
        "finish_reason": answer.completion.finish_reason,
        "leak": answer.leak,
        "held_out": answer.row.messages[-1]["content"],
    }
