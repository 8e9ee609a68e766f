"""Prompts for a base model, and the parsing of what it wrote. The only place that knows a prompt's delimiters.

Every prompt is prose from the constitution's templates, followed by blocks under headings:

    ### Task 3
    ### Instruction
    Translate the notice into Spanish.
    ### Input
    Please close the gate.

A base model takes up the form from the worked blocks and goes on after an open heading. Text from a human or a model
is put in through `plain`, so that no line of it can pass for a heading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from selfalign.constitution.schema import Constitution, InstructionType, Principle, TopicSeed, Turn, trim

HEADING = "### "
USER = f"{HEADING}User\n"
THOUGHT = f"{HEADING}Internal thought\n"
ASSISTANT = f"{HEADING}Assistant\n"
TASK = f"{HEADING}Task"
INSTRUCTION = f"{HEADING}Instruction\n"
INPUT = f"{HEADING}Input\n"
TOPIC = f"{HEADING}Topic\n"
KIND = f"{HEADING}Kind\n"

STOP_AT_HEADING = "\n" + HEADING
"""The model opens the next block by itself."""

STOP_REPLY = (STOP_AT_HEADING, *(block.strip() for block in (USER, THOUGHT, ASSISTANT)))
"""Ends a reply. Half of the first 12 replies that a 1.5B model lost opened the next block in the middle of a line."""


def plain(text: str) -> str:
    """Text that cannot open a block: where a line begins with `### `, it gets a fourth `#`, as in the chat template."""
    return plain_block(text.strip())


def plain_block(text: str) -> str:
    """The same for a text that may be code: its first line keeps its indentation."""
    return re.sub(r"(?m)^### ", "#### ", trim(text))


def user_turn(instruction: str, input: str = "") -> str:
    """An instruction and its input as one user turn."""
    return f"{instruction.strip()}\n\n{input.strip()}" if input.strip() else instruction.strip()


class Task(NamedTuple):
    """A parsed instruction with its input, which may be empty."""

    instruction: str
    input: str


# ---------------------------------------------------------------------------------------------------------- topics


def topics_prompt(constitution: Constitution, type_name: str, topics: Sequence[str]) -> str:
    """A numbered list of `topics` for a type, open at the next number."""
    head = plain(constitution.templates.topics.replace("{{ type }}", type_name))
    lines = [f"{number}. {plain(topic)}" for number, topic in enumerate(topics, 1)]
    return "\n".join([head, "", *lines, f"{len(topics) + 1}."])


def parse_topics(text: str, truncated: bool) -> list[str]:
    """The topics of a continued list. The last one is left out when the text was cut at its length limit."""
    lines = text.split("\n")
    if truncated:
        lines = lines[:-1]
    items = (re.fullmatch(r"\s*(?:\d+[.)])?\s*(\S.*?)\s*", line) for line in lines)
    return [item.group(1) for item in items if item]


# ---------------------------------------------------------------------------------------------------- instructions


def topic_guided_prefix(constitution: Constitution) -> str:
    """The prose that every topic-guided prompt begins with."""
    return plain(constitution.templates.topic_guided) + "\n"


def topic_guided_prompt(shots: Iterable[InstructionType], type_name: str, topic: str) -> str:
    """Worked (topic, kind, instruction) blocks and an open one for the pair."""
    blocks = [topic_block(shot.name, shot.seed) for shot in shots]
    return "\n".join([*blocks, topic_block(type_name, TopicSeed.model_construct(topic=topic, instruction=""))]) + "\n"


def topic_block(type_name: str, seed: TopicSeed) -> str:
    """One block, open where `seed` has no instruction."""
    kind = f"instructions that require {type_name}"
    head = f"\n{TOPIC}{plain(seed.topic)}\n{KIND}{plain(kind)}\n{INSTRUCTION}"
    return head + plain(seed.instruction) if seed.instruction else head.removesuffix("\n")


def self_instruct_prefix(constitution: Constitution) -> str:
    """The prose that every self-instruct prompt begins with."""
    return plain(constitution.templates.self_instruct) + "\n"


def self_instruct_prompt(shots: Sequence[Task]) -> str:
    """Numbered worked tasks and an open one."""
    blocks = [f"\n{TASK} {number}\n{task_block(shot)}" for number, shot in enumerate(shots, 1)]
    return "\n".join([*blocks, f"\n{TASK} {len(shots) + 1}\n{INSTRUCTION}"])


def task_block(task: Task) -> str:
    """Instruction, and input where there is one."""
    instruction = INSTRUCTION + plain(task.instruction)
    return f"{instruction}\n{INPUT}{plain_block(task.input)}" if task.input else instruction


STOP_TASK = ("\n" + TASK, "\n" + TOPIC, "\n" + KIND, "\n" + INSTRUCTION)
"""Ends a generated instruction; an Input heading belongs to it and does not."""

NO_INPUT = re.compile(r"\W*(none|no ?input|n/?a|not applicable|nil|empty)?\W*", re.IGNORECASE)


OWN_HEADING = re.compile(r"\n### (?!Input\n)(?=\S)")
"""A block that the model invents after the task, such as `### Output`: the task ends there."""


def parse_task(text: str) -> Task | None:
    """The instruction and input that the model wrote; None where it is not of that form."""
    text = OWN_HEADING.split(f"\n{text}")[0]
    instruction, *inputs = text.split("\n" + INPUT)
    instruction, input = re.sub(r"\n\s*\n", "\n", instruction.strip()), "\n".join(inputs).strip()
    if not instruction or HEADING in instruction + input or len(inputs) > 1:
        return None
    return Task(instruction, "" if NO_INPUT.fullmatch(input) else input)


# ------------------------------------------------------------------------------------------------------- responses


def principle_line(principle: Principle) -> str:
    """A principle as it stands in the prompt, named as thoughts cite it."""
    return f"{principle.number} ({principle.name}). {principle.text}"


def responses_prefix(constitution: Constitution, thoughts: bool = True) -> str:
    """Principles and exemplars: the long prefix that all responses share (about 1,650 tokens for the built-in one).

    Without `thoughts` the exemplars answer at once, as the prompt of `unthinking_prompt` asks.
    """
    principles = [plain(principle_line(principle)) for principle in constitution.principles]
    turns = [shown_turn(turn, thoughts) for exemplar in constitution.exemplars for turn in exemplar.turns]
    heads = plain(constitution.templates.principles), plain(constitution.templates.exemplars)
    return "\n".join([heads[0], "", *principles, "", heads[1], "", *turns])


def shown_turn(turn: Turn, thought: bool) -> str:
    """A turn of an exemplar, with its thought or without."""
    thinking = f"{THOUGHT}{plain(turn.thought)}\n" if thought else ""
    return f"{USER}{plain(turn.user)}\n{thinking}{ASSISTANT}{plain(turn.response)}\n"


def thought_prompt(user: str, opening: str = "") -> str:
    """A user turn, open where the internal thought goes on from its `opening`. Stop it at `STOP_THOUGHT`."""
    return f"\n{USER}{plain(user)}\n{THOUGHT}{plain(opening)}"


def said_turns(contents: Sequence[str]) -> str:
    """Earlier turns of a conversation, the user's and the assistant's in turn, as exemplars are written."""
    headings = (USER, ASSISTANT)
    turns = [f"\n{headings[i % 2]}{plain(content)}\n"[i % 2 :] for i, content in enumerate(contents)]
    return "".join(turns)


STOP_THOUGHT = ("\n",)


def join_thought(opening: str, continued: str) -> str:
    """The whole thought: some tokenizers lose the space with which a continuation begins."""
    blank = " " if opening and not continued[:1].isspace() else ""
    return f"{opening}{blank}{continued}".strip()


def reply_prompt(user: str, thought: str) -> str:
    """A user turn and the whole thought, open where the reply begins. Stop it at `STOP_REPLY`."""
    return f"{thought_prompt(user)}{plain(thought)}\n{ASSISTANT}"


def unthinking_prompt(user: str) -> str:
    """A user turn, open where the reply begins, no thought before it: for scoring given replies."""
    return f"\n{USER}{plain(user)}\n{ASSISTANT}"
