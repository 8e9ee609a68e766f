"""Scripts for the scripted engine: a small base model's manners, faults included, decided by the request's seed.

In a recipe: `engine: {kind: scripted, script: "tests.support.scripts:answer"}`.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from selfalign.constitution.rendering import ASSISTANT, HEADING, INPUT, INSTRUCTION, KIND, TASK, THOUGHT, TOPIC
from selfalign.engines.base import Request

if TYPE_CHECKING:
    import pytest

SLEEP = "SELFALIGN_SCRIPT_SLEEP"
"""Environment variable: seconds that `slow_answer` takes for a request."""

VERBS = (
    "Describe", "Explain", "Compare", "Summarise", "Translate", "Rank", "Outline", "Defend", "Criticise", "Rewrite",
    "Estimate", "Classify", "Imagine", "Shorten", "Justify", "Recommend", "Predict", "Simplify", "Debate", "Correct",
)  # fmt: skip
SUBJECTS = (
    "harbour ferries", "sourdough starters", "tax brackets", "migrating swallows", "medieval bridges", "violin strings",
    "solar panels", "tenant contracts", "chess openings", "mountain huts", "public libraries", "fishing quotas",
    "subway maps", "wool dyeing", "volcanic soils", "night markets", "glass kilns", "jury trials", "bamboo scaffolds",
    "desert wells", "cheese caves", "tram drivers", "comet tails", "paper money", "opera choruses",
)  # fmt: skip
AUDIENCES = (
    "a sceptical uncle", "new apprentices", "a town council", "Grade nine pupils", "an impatient editor", "two rivals",
    "a café owner", "night nurses", "visiting engineers", "a retired sailor", "my daughter", "hobby gardeners",
)  # fmt: skip
ANGLES = (
    "without any jargon", "in exactly four sentences", "from an economic viewpoint", "with one historical parallel",
    "as a short dialogue", "naming two common mistakes", "for a radio broadcast", "weighing costs against comfort",
    "starting with the exceptions", "through a single example", "as advice before winter", "in the style of a letter",
)  # fmt: skip
PLACES = (
    "Lisbon",
    "Osaka",
    "Nairobi",
    "Quito",
    "Tromsø",
    "Zürich",
    "Hanoi",
    "Perth",
    "Leeds",
    "Tunis",
    "Lviv",
    "Bergen",
)
THINGS = (
    "Rivers", "Taxes", "Bread", "Courts", "Trains", "Comets", "Wool", "Chess", "Cheese", "Harvests", "Bridges", "Opera",
    "Markets", "Islands", "Weddings", "Mines", "Sleep", "Ports", "Clocks", "Dialects",
)  # fmt: skip
OPENINGS = ("In practice", "As a rule", "Oddly enough", "By most accounts", "Over the years", "Given some care")
CLAIMS = (
    "{subject} depend on patient upkeep", "cheapest choice seldom lasts", "teachers of {place} say otherwise",
    "small habits decide the outcome", "{subject} reward a careful eye", "experts argue about the first step",
    "weather sets the pace", "good records save a week of arguing", "rival {place} does it with half the staff",
    "written plan beats a clever one", "oldest method is still the safest", "{subject} suffer from haste",
)  # fmt: skip

Fault = Callable[[random.Random, Request], str]


def answer(request: Request) -> str:
    """What the base model writes after `request`, by what the prompt asks for."""
    rng = random.Random(request.seed)
    if request.chat_format:
        return chat(rng, request)
    kind = asks_for(request.prompt)
    if kind == INSTRUCTION:
        return self_instruct(rng, request) if TASK in request.prompt else topic_guided(rng, request)
    return {THOUGHT: thought, ASSISTANT: reply, "": topics}[kind](rng, request)


def asks_for(prompt: str) -> str:
    """The heading that a prompt leaves open; none where it is a list (an internal thought may have its first word)."""
    _, heading, last = prompt.rpartition(HEADING)
    return heading + last.partition("\n")[0] + "\n" if heading else ""


def slow_answer(request: Request) -> str:
    """The same after as many seconds as `SLEEP` says."""
    time.sleep(float(os.environ.get(SLEEP, "0")))
    return answer(request)


def nonsense(request: Request) -> str:
    """What no filter of any stage lets pass."""
    return "..."


# ------------------------------------------------------------------------------------------------------------ text


def instruction(rng: random.Random) -> str:
    """One of 864,000 orders. None is ASCII alone, so that half a text may end within a character."""
    verb, place, subject, audience, angle = map(rng.choice, (VERBS, PLACES, SUBJECTS, AUDIENCES, ANGLES))
    return f"{verb} {place}’s {subject} to {audience}, {angle}."


def sentence(rng: random.Random) -> str:
    """One of some thousands."""
    claim = rng.choice(CLAIMS).format(subject=rng.choice(SUBJECTS), place=rng.choice(PLACES))
    return f"{rng.choice(OPENINGS)}, {rng.choice(PLACES)}’s {claim} {rng.choice(ANGLES)}."


def prose(rng: random.Random, sentences: int) -> str:
    """Sentences that differ."""
    return " ".join(dict.fromkeys(sentence(rng) for _ in range(sentences)))


def too_long(rng: random.Random, request: Request) -> str:
    """More words than the request allows, on one line."""
    count = request.sampling.max_tokens + 20
    return " ".join(f"{rng.choice(SUBJECTS)} {number}," for number in range(count))


def one_of(rng: random.Random, request: Request, share: float, faults: Sequence[Fault], good: Fault) -> str:
    """One of the faults in a `share` of cases, else what is good."""
    return (rng.choice(faults) if rng.random() < share else good)(rng, request)


def without_faults(patch: pytest.MonkeyPatch) -> None:
    """Until `patch` is undone everything written is good: a test that needs so many accepted records gets them.

    A test that trains needs this: its model's path, which pytest numbers, is in every key, and so draws the faults.
    """
    patch.setattr(sys.modules[__name__], "one_of", lambda rng, request, share, faults, good: good(rng, request))


# ---------------------------------------------------------------------------------------------------------- stages


def topics(rng: random.Random, request: Request) -> str:
    """The list goes on: mostly topics, some of them sentences, lower-cased or known already."""
    start = int(re.findall(r"(\d+)\.$", request.prompt)[0])
    items = [topic(rng, request) for _ in range(rng.randint(3, 6))]
    return "".join(f"{'' if i == 0 else f'{start + i}.'} {item}\n" for i, item in enumerate(items)) + "\nThe end"


def topic(rng: random.Random, request: Request) -> str:
    faults: tuple[Fault, ...] = (
        lambda rng, _: f"all about {rng.choice(THINGS).lower()} in {rng.choice(PLACES)}",
        lambda rng, _: rng.choice(THINGS).lower(),
        lambda rng, _: re.findall(r"(?m)^1\. (.+)$", request.prompt)[0].upper(),
    )
    return one_of(rng, request, 0.3, faults, lambda rng, _: f"{rng.choice(THINGS)} of {rng.choice(PLACES)}")


def topic_guided(rng: random.Random, request: Request) -> str:
    """An instruction about the pair's topic."""
    about = request.prompt.rpartition(TOPIC)[2].split("\n")[0]
    faults: tuple[Fault, ...] = (
        too_long,
        lambda *_: "Why?",
        lambda *_: f"Draw a diagram of {about}.",
        lambda *_: request.prompt.split(INSTRUCTION)[1].split("\n")[0],
        lambda *_: f"{KIND}instructions about {about}",
    )
    return one_of(rng, request, 0.3, faults, lambda rng, _: f"{about}: {instruction(rng)}\n\n{TOPIC}Next")


def self_instruct(rng: random.Random, request: Request) -> str:
    """An instruction, every other one with an input."""
    faults: tuple[Fault, ...] = (
        too_long,
        lambda *_: "Tell.",
        lambda rng, _: f"Summarise the attached file about {rng.choice(SUBJECTS)}.",
        lambda *_: request.prompt.split(INSTRUCTION)[1].split("\n")[0],
        lambda rng, _: f"{instruction(rng)}\n{INPUT}one\n{INPUT}two",
    )
    return one_of(rng, request, 0.3, faults, task)


def task(rng: random.Random, request: Request) -> str:
    text = instruction(rng)
    if rng.random() < 0.5:
        text += f"\n{INPUT}{sentence(rng)}\n\n{sentence(rng)}" if rng.random() < 0.7 else f"\n{INPUT}None."
    return f"{text}\n\n{TASK} 9\n{INSTRUCTION}Another"


def thought(rng: random.Random, request: Request) -> str:
    """One line that cites a principle of the prompt."""
    number, name = rng.choice(principles_in(request.prefix))
    faults: tuple[Fault, ...] = (
        too_long,
        lambda *_: "",
        lambda *_: f"{number} ({name})",
        lambda rng, _: f"The user wants to hear about {rng.choice(SUBJECTS)}, which is simple enough.",
    )
    good = f"The user asks about {rng.choice(SUBJECTS)}, so {number} ({name}) decides how to answer.\n{ASSISTANT}"
    return one_of(rng, request, 0.3, faults, lambda *_: good)


def reply(rng: random.Random, request: Request) -> str:
    """Some sentences, closed by the next heading."""
    number, name = rng.choice(principles_in(request.prefix))
    faults: tuple[Fault, ...] = (
        too_long,
        lambda *_: "",
        lambda *_: "Yes.",
        lambda *_: f"As {number} ({name}) demands, here is the answer you asked me for.",
        lambda rng, _: f"{sentence(rng)} " * 9,
        lambda *_: request.prefix.split(ASSISTANT)[1].split(f"\n{HEADING}")[0],
        lambda *_: request.prompt.split("\n", 2)[2].split(f"\n{HEADING}")[0],
    )
    end = f"\n\n{HEADING}User\nMore?"
    return one_of(rng, request, 0.3, faults, lambda rng, _: prose(rng, rng.randint(2, 5)) + end)


def chat(rng: random.Random, request: Request) -> str:
    """A longer answer of a tuned model."""
    faults: tuple[Fault, ...] = (
        too_long,
        lambda *_: "",
        lambda rng, _: f"{prose(rng, 2)}\n\nSee also\n\nWikipedia",
        lambda rng, _: f"My guidelines require this: {prose(rng, 2)}",
        lambda rng, _: "\n".join(f"{i}. {rng.choice(SUBJECTS)} number {i}" for i in range(1, 60)),
    )
    return one_of(rng, request, 0.2, faults, lambda rng, _: prose(rng, rng.randint(4, 8)))


def principles_in(prefix: str) -> list[tuple[str, str]]:
    """(number, name) of the principles that a prompt lists."""
    return re.findall(r"(?m)^(\d+) \((.+?)\)\. ", prefix)
