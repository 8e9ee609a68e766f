"""The work that every engine does: instructions of the built-in constitution under its own responses prompt."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.engines.job import Work

from selfalign.constitution.rendering import responses_prefix, thought_prompt, topic_guided_prefix, user_turn
from selfalign.errors import UserError

if TYPE_CHECKING:
    from selfalign.constitution.schema import Constitution
    from selfalign.engines.tokenization import Tokenization

CONSTITUTION = "dromedary"
PREFIX_TOKENS = 1620
"""Shared tokens of a prompt: the built-in principles and exemplars, 1,845 in the default model, are cut to it."""
UNSHARED_TOKENS = range(16, 41)
"""Own tokens that a prompt may have; their mean is about 32. An instruction outside is not used."""
FRAMES = (
    "{}",
    "Briefly: {}",
    "In two sentences: {}",
    "Step by step: {}",
    "For a child: {}",
    "With care: {}",
    "For a reader of twelve: {}",
    "Give the reasons as well. {}",
    "As you would tell a friend: {}",
    "Begin with what is least certain. {}",
    "With one example from daily life: {}",
    "In words that a translator would thank you for: {}",
)
"""What makes more instructions of the seeds, where more are wanted; the first frame is the seed itself."""
WARM_UP_FRAME = "Before anything else, warm up. {}"
WARM_UP_PROMPTS = 64
"""So that an engine meets its full batch before it is timed."""


class Workload(NamedTuple):
    """What is timed, and what goes before it, which has neither prefix nor prompt in common with it."""

    measured: Work
    warm_up: Work


def workload(tokenization: Tokenization, instructions: int, prefix_tokens: int = PREFIX_TOKENS) -> Workload:
    """The first `instructions` prompts under a prefix of about `prefix_tokens` tokens.

    Raises UserError where the seeds under all frames are fewer than wanted.
    """
    from selfalign.constitution.loading import load_constitution

    constitution = load_constitution(CONSTITUTION)
    prefix = sized_prefix(tokenization, constitution, prefix_tokens)
    prompts = list(islice(fitting_prompts(tokenization, constitution, FRAMES), instructions))
    if len(prompts) < instructions:
        raise UserError(
            f"the workload has {len(prompts)} instructions, {instructions} are wanted", f"--instructions {len(prompts)}"
        )
    warm = list(
        islice(fitting_prompts(tokenization, constitution, (WARM_UP_FRAME,)), min(instructions, WARM_UP_PROMPTS))
    )
    return Workload(work(tokenization, prefix, prompts), work(tokenization, topic_guided_prefix(constitution), warm))


def work(tokenization: Tokenization, prefix: str, prompts: list[str]) -> Work:
    """Text and ids, tokenized as every engine of selfalign tokenizes them: the prefix apart."""
    ids = [tokenization.encode(prompt, begins=not prefix) for prompt in prompts]
    return Work(prefix, tokenization.prefix_ids(prefix), prompts, ids)


def sized_prefix(tokenization: Tokenization, constitution: Constitution, tokens: int) -> str:
    """The responses prompt, repeated and cut to about `tokens` tokens (what a cut word gives when read again)."""
    once = responses_prefix(constitution)
    text = once
    while len(tokenization.prefix_ids(text)) < tokens:
        text += once
    return tokenization.decode(tokenization.prefix_ids(text)[:tokens])


def fitting_prompts(tokenization: Tokenization, constitution: Constitution, frames: tuple[str, ...]) -> Iterator[str]:
    """Prompts of `UNSHARED_TOKENS` tokens, all seeds under the first frame, then under the next."""
    for frame in frames:
        for instruction in instructions_of(constitution):
            prompt = thought_prompt(frame.format(instruction), constitution.templates.thought_opening)
            if len(tokenization.encode(prompt)) in UNSHARED_TOKENS:
                yield prompt


def instructions_of(constitution: Constitution) -> Iterator[str]:
    """The seed instructions with their inputs, then those of the instruction types."""
    for seed in constitution.seeds:
        yield user_turn(seed.instruction, seed.input)
    for kind in constitution.instruction_types:
        yield kind.seed.instruction
