"""What a run will take, before it runs: jobs, tokens, seconds and disk, from stated assumptions."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from selfalign.constitution.loading import load_constitution
from selfalign.constitution.rendering import responses_prefix
from selfalign.pipeline.manifest import STAGES, StageName, stage_names
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.recipe import PriceOptions, Recipe

YIELD = {"topics": 0.4, "instructions": 0.6, "responses": 0.6, "elaborations": 0.9}
"""Accepted share assumed where the run has none yet: what the demo gives, rounded down."""

FILL = {"topics": 0.9, "instructions": 0.4, "responses": 0.4, "elaborations": 0.6, "evaluate": 0.6}
"""How much of `max_tokens` a completion uses, likewise."""

TOKENS_PER_SECOND = 60.0
"""Assumed where no stage has been timed: the embedded default on 2 cores. A larger model is slower in proportion."""

BYTES_PER_RECORD = 1500
BYTES_PER_MODEL = 12_000_000
CHARACTERS_PER_TOKEN = 4.4


class StageEstimate(NamedTuple):
    """One row: jobs, tokens fed (shared prefixes counted once a request), tokens generated, seconds, bytes."""

    stage: str
    jobs: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    bytes: int


def estimate(recipe: Recipe, path: Path, until: str = STAGES[-1]) -> list[StageEstimate]:
    """One row a stage up to `until`. A run directory that has timed a stage gives its own speed."""
    speed = measured_speed(path)
    constitution = load_constitution(recipe.constitution, identity_name=recipe.identity_name)
    shared = int(len(responses_prefix(constitution)) / CHARACTERS_PER_TOKEN)
    made = recipe.instructions.topic_guided + recipe.instructions.self_instruct
    instructions = made + sum(source.cap for source in recipe.instructions.sources)  # one without a cap is not known
    held_out = min(recipe.evaluate.held_out, instructions // 3)
    train = instructions - held_out
    jobs = {
        "topics": recipe.topics.rounds * len(constitution.instruction_types),
        "instructions": int(made / YIELD["instructions"]),
        "responses": int(train * min(recipe.responses.attempts, 1 / YIELD["responses"])),
        "elaborations": train,
        "evaluate": 4 * held_out,
    }
    prompt = {"topics": 90, "instructions": 450, "responses": 2 * shared, "elaborations": 120, "evaluate": shared // 2}
    limit = {
        "topics": recipe.topics.max_tokens,
        "instructions": recipe.instructions.max_tokens,
        "responses": recipe.responses.max_tokens + recipe.responses.thought_tokens,
        "elaborations": recipe.elaborations.max_tokens,
        "evaluate": recipe.evaluate.max_tokens,
    }
    rows = []
    names = stage_names(recipe.rounds.count)
    for name in names[: names.index(until) + 1]:
        stage = StageName.of(name).base
        if stage in jobs:
            new = int(jobs[stage] * limit[stage] * FILL[stage])
            size = jobs[stage] * BYTES_PER_RECORD
            rows.append(StageEstimate(name, jobs[stage], jobs[stage] * prompt[stage], new, new / speed, size))
        elif stage in ("engrave", "clone"):
            row = training_estimate(recipe, stage, train, len(constitution.identity_pairs), speed)
            rows.append(row._replace(stage=name))
    return rows


def training_estimate(recipe: Recipe, stage: str, rows: int, identity: int, speed: float) -> StageEstimate:
    """A training step reads and learns: three passes' worth of work a token, at several times the speed of decoding.

    The gate's answers are its new tokens.
    """
    options = getattr(recipe, stage)
    learnt = int(rows * (YIELD["responses"] if stage == "engrave" else YIELD["elaborations"]))
    total = learnt + identity * options.identity_copies
    tokens = int(total * options.num_train_epochs * (150 if stage == "engrave" else 260))
    asked = min(recipe.gate.rows, options.validation_rows, learnt // 10)
    new = int(asked * recipe.gate.max_tokens * FILL["evaluate"])
    return StageEstimate(stage, total, tokens, new, tokens / (4 * speed) + new / speed, BYTES_PER_MODEL)


def measured_speed(path: Path) -> float:
    """Generated tokens a second over the stages that a run has timed, else the assumption."""
    if (path / "run.json").is_file():
        states = RunDirectory(path).stages.values()
        seconds = sum(state.engine_seconds for state in states if state.tokens.completion)
        tokens = sum(state.tokens.completion for state in states)
        if seconds > 0 and tokens > 0:
            return tokens / seconds
    return TOKENS_PER_SECOND


def format_estimate(rows: list[StageEstimate], price: PriceOptions | None = None) -> str:
    """A table and its total, in money too where there is a price."""
    lines = [f"{'stage':13} {'jobs':>9} {'prompt tokens':>14} {'new tokens':>11} {'minutes':>9} {'MB':>8}"]
    for row in [*rows, total(rows)]:
        counts = f"{row.stage:13} {row.jobs:9,} {row.prompt_tokens:14,} {row.new_tokens:11,}"
        lines.append(f"{counts} {row.seconds / 60:9,.1f} {row.bytes / 1e6:8,.1f}")
    whole = total(rows)
    cost = price.charge(whole.prompt_tokens, whole.new_tokens, whole.seconds) if price else None
    if price and cost is not None:
        lines.append(f"about {cost:,.2f} {price.currency} at the recipe's prices")
    note = (
        "Nothing was run. Minutes hold for the embedded default on 2 cores unless this run has timed a stage;\n"
        "expect them to be right within a factor of three."
    )
    return "\n".join([*lines, note])


def total(rows: list[StageEstimate]) -> StageEstimate:
    """The sum of all stages."""
    return StageEstimate(
        "total",
        sum(row.jobs for row in rows),
        sum(row.prompt_tokens for row in rows),
        sum(row.new_tokens for row in rows),
        sum(row.seconds for row in rows),
        sum(row.bytes for row in rows),
    )
