"""A model as a judge: of the labels that a prompt allows, the one it gives, or why there is none.

Two ways, the first where the engine can score, the second where it cannot (a server without `echo`) or a prompt was
too long to be scored:

- by log-probability: every label is scored after the prompt, and the likeliest wins. If all labels together have less
  than `MIN_MASS` of the probability, the judge was about to write something else: it could not judge.
- by text: the judge writes, greedily; a first line that is not one of the labels (prose, say) is no verdict.

"Could not judge" is no label, and never counts as one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from selfalign.engines.base import Request, Sampling
from selfalign.evaluation.choice import scores_or_reasons
from selfalign.evaluation.judge_prompts import JudgePrompt
from selfalign.evaluation.subject import Prompt, Subject
from selfalign.records import content_hash

MIN_MASS = 0.5
"""Of the labels' summed probability: below, the judge was likelier to write something else.

Measured on the embedded default: 0.83 to 0.9 on yes or no; 0.12 to 0.47 on which of two answers is better, where it
could not tell an answer from one about cheese in any of 10 pairs.
"""

EQUAL = "equal"
"""The label of a tie, in prompts that have one."""

READ = Sampling(temperature=0.0, max_tokens=16, stop=("\n",))
"""How a verdict is read as text: a label is one or two tokens, and prose shows itself by then."""


FEW = 10
"""Of fewer verdicts nothing is concluded about the judge."""


class Ruling(NamedTuple):
    """A judge's verdict. `label` is None where it could not judge, for `reason`.

    `scores` are the labels' natural log-probabilities, empty where the verdict was read as text.
    """

    label: str | None
    reason: str
    scores: tuple[float, ...]
    by: Literal["log-probability", "text"]


def rule(judge: Subject, prompt: JudgePrompt, cases: Sequence[Sequence[str]]) -> list[Ruling]:
    """A ruling for each case (the values of the prompt's fields), in order.

    The judge reads the raw prompt, without the chat format or principles of its own.
    """
    texts = [prompt.render(case) for case in cases]
    asked = [[(Prompt(text, False), label) for label in prompt.labels] for text in texts]
    answers = scores_or_reasons(judge, asked) if asked else []
    unscored = [text for text, answer in zip(texts, answers, strict=True) if isinstance(answer, str)]
    by_text = iter(rule_by_text(judge, prompt.labels, unscored))
    return [next(by_text) if isinstance(answer, str) else likeliest(prompt.labels, tuple(answer)) for answer in answers]


def likeliest(labels: Sequence[str], scores: tuple[float, ...]) -> Ruling:
    """The label with the highest log-probability; none where all are unlikely.

    Two exactly alike are `equal` where that is a label, and else no verdict.
    """
    mass = sum(map(math.exp, scores))
    best = max(scores)
    if mass < MIN_MASS:
        return Ruling(None, f"the judge gives its labels {mass:.1%} of the probability", scores, "log-probability")
    if scores.count(best) > 1 and EQUAL in labels:
        return Ruling(EQUAL, "", scores, "log-probability")
    if scores.count(best) > 1:
        return Ruling(None, "the judge likes two labels exactly alike", scores, "log-probability")
    return Ruling(labels[scores.index(best)], "", scores, "log-probability")


def rule_by_text(judge: Subject, labels: Sequence[str], texts: Sequence[str]) -> list[Ruling]:
    """A ruling from what the judge writes after each text."""
    requests = [Request(content_hash(["judge", at, text]), text, sampling=READ) for at, text in enumerate(texts)]
    completions = {completion.key: completion for completion in judge.engine.generate(requests)}
    found = [completions[request.key] for request in requests]
    return [read_label(labels, completion.text, completion.refusal) for completion in found]


def read_label(labels: Sequence[str], text: str, refusal: str = "") -> Ruling:
    """The label that `text` is, whatever its case and the marks around it."""
    if refusal:
        return Ruling(None, f"the judge refused: {refusal}", (), "text")
    written = re.sub(r"^[\W_]+|[\W_]+$", "", text).casefold()
    for label in labels:
        if written == label.casefold():
            return Ruling(label, "", (), "text")
    prose = " ".join(text.split())
    return Ruling(None, f"the judge answered in prose: {prose!r}" if prose else "the judge said nothing", (), "text")


def habit(alike: int, judged: int, what: str) -> dict[str, str]:
    """A warning for a measurement's extras, where `alike` of the verdicts are, for what the judge says of everything.

    The embedded default said "no" of 20 answers in 20, with 90 % of the probability on its labels: the interval around
    such a figure tells of the judge's habit, and not of the answers.
    """
    if judged < FEW or alike < judged:
        return {}
    return {"warning": f"the judge {what} in all of {judged}: read some, to see whether it can tell them apart"}
