"""What the scripted engine answers: instructions, thoughts and replies, about a fifth of each to be rejected.

engine: {kind: scripted, script: "benchmarks.runner.script:answer"}
"""

from __future__ import annotations

import random
import re
from functools import cache

from benchmarks.novelty.texts import Source, draw, seeds_source

from selfalign.constitution.rendering import ASSISTANT, HEADING, INSTRUCTION, TASK
from selfalign.engines.base import Request

FAULTS = 0.2
SENTENCES = (2, 5)
WORDS = (6, 14)


def answer(request: Request) -> str:
    """Decided by the request's seed."""
    rng = random.Random(request.seed)
    fault = rng.random() < FAULTS
    if request.key.endswith("/instruction"):
        return "Why?" if fault else f"{' '.join(draw(source(), rng))}.\n\n{TASK} 9\n{INSTRUCTION}Another"
    if request.key.endswith("/thought"):
        number, name = rng.choice(principles_in(request.prefix))
        cited = "nothing that I know" if fault else f"{number} ({name})"
        return f"The user asks for {' '.join(draw(source(), rng)[1:4])}, so {cited} decides how to answer.\n{ASSISTANT}"
    return "Yes." if fault else f"{prose(rng)}\n\n{HEADING}User\nMore?"


def prose(rng: random.Random) -> str:
    """Some sentences of the seeds' words."""
    words = source()
    return " ".join(
        " ".join(rng.choices(words.words, cum_weights=words.weights, k=rng.randint(*WORDS))).capitalize() + "."
        for _ in range(rng.randint(*SENTENCES))
    )


@cache
def source() -> Source:
    """Read once."""
    return seeds_source()


@cache
def principles_in(prefix: str) -> list[tuple[str, str]]:
    """(number, name) of the principles that a prompt lists."""
    return re.findall(r"(?m)^(\d+) \((.+?)\)\. ", prefix)
