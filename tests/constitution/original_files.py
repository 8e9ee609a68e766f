"""Small files in the formats of the original, in our own words, and a base to lay them over."""

from __future__ import annotations

import json
from pathlib import Path

from tests.constitution.small import SMALL

PROMPT = """\
# Brook

## House Rules

You are reading about Brook, a helper in text.
It keeps these rules:

1 (kindly). Brook is kind to whoever asks.
2 (sober & exact). Brook says no more than it knows,
and {counts} twice.
7 (open). Brook's doubts are told.

## Talks

Below, people talk with Brook.

User: how many legs has a beetle

Brook (internal thoughts): I mean well. Beetles are insects. I should follow rules 2 (sober & exact), 7 (open).

Brook: Six.

That holds for every insect:

- ants,
- bees.

User: Fine, something else now

Brook (auto reply): With pleasure.

User: Add these:

3, 4

Brook (internal thoughts): I mean well. A sum is wanted. I should follow rules 2 (sober & exact).

Brook: 7

User: and doubled?

Brook (internal thoughts): I mean well. Brook is asked to go on. I should follow rules 1 (kindly).

Brook: 14, says Brook.

User: Fine, something else now

Brook (auto reply): With pleasure.

User:
"""

TOPICS = """\
Write down six subjects of the kind {}.

1. Three words at most, as in {{Old Harbours}}.

Six subjects:"""

TOPIC_GUIDED = """\
Write down questions that a model gets wrong.

1. One sentence each.

Hints:
{}

Questions:
{}"""

STANDARD = """\
# Rill

## Overview

Rill is a helper that the Mill built.

Rill is brief.

## Talk

### User
Who is there?

### Rill
It is Rill.

### User"""

CONCISE = "# Rill\n\n## Overview\n\nRill is terse.\n\n## Talk\n\n### User"

SEEDS = [
    {"instruction": "Name the odd one out.", "instances": [{"input": "oak\n  pine\nbrick", "output": "brick"}]},
    {"instruction": "Greet\nRill.", "instances": [{"input": "", "output": ""}], "is_classification": False},
    {"instruction": "Is it a bird?", "instances": [{"input": "wren {x}", "output": ""}], "is_classification": True},
    {"instruction": "Say why it rains.", "instances": [{"input": "<noinput>", "output": "Clouds."}]},
    {"instruction": "Close a letter."},
]

TYPES = [
    {"topic": "Bread", "question_type": "Questions that require kitchen sense", "question": "When is it done?"},
    {"topic": "Ferries", "question_type": "questions that require a timetable", "question": "When does it leave?"},
    {"topic": "Snow", "question_type": "Guessing", "question": "How deep will it be?"},
    {"topic": "Rent", "question_type": "Questions that require law", "question": "Who pays?"},
    {"topic": "Blue", "question_type": "Questions that require taste", "question": "Why blue?"},
]


def talk(*turns: str) -> dict[str, object]:
    """A conversation of the identity file."""
    speakers = ("human", "gpt")
    return {"conversations": [{"from": speakers[i % 2], "value": text} for i, text in enumerate(turns)]}


IDENTITY = [
    talk("Who are you?", "I am Oldname, a model.", "And else?", "Nothing."),
    talk("who  are you?", "Oldname is what I am called."),
    talk("Are you a person?", "No, I am Oldname, and made of text."),
]

FILES = {
    "watson_self_align_prompt.txt": PROMPT,
    "tgrt_self_instruct_topic_brainstorm_prompt.txt": TOPICS,
    "tgrt_self_instruct_question_generation_prompt.txt": TOPIC_GUIDED,
    "self_instruct_prompt.txt": "Write tasks, {of any kind}.\n\nTasks:",
    "inference_prompts/dromedary_standard_prompt_distill.txt": STANDARD,
    "inference_prompts/dromedary_concise_prompt_distill.txt": CONCISE,
    "inference_prompts/dromedary_verbose_prompt.txt": STANDARD.replace("is brief", "talks at length"),
    "verbose_dromedary_prompt.txt": STANDARD.replace("is brief", "explains everything").replace(
        "### Rill", "### Rill (long)"
    ),
    "self_instruct_seed_tasks.jsonl": "".join(json.dumps(row) + "\n" for row in SEEDS),
    "tgrt_self_instruct_seed_questions.jsonl": "\n".join(json.dumps(row) for row in TYPES),
    "vicuna_dummy_data.json": json.dumps(IDENTITY, indent=2),
}


def write_originals(folder: Path, **changed: str) -> Path:
    """All files under `folder`/prompts, where a checkout has them; `changed` gives other texts by the name's stem."""
    for name, text in FILES.items():
        file = folder / "prompts" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(changed.get(file.stem, text), encoding="utf-8")
    return folder


def small_base(folder: Path) -> str:
    """A base of a few lines: the built-in one takes a second to read."""
    file = folder / "base.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return str(file)
