"""TruthfulQA generation: answers written freely, judged by a model as truthful and as informative.

The benchmark's own judges are two fine-tuned GPT-3 models (Lin et al. 2021, arXiv 2109.07958, section 3.2), which are
gone. Here any model judges under a published prompt, shown the question's known true and false answers as a help.
Its figures can be compared with others of the same judge and prompt, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from selfalign.evaluation.answering import PROMPT_FORMAT, ask, outcome_of, unanswered
from selfalign.evaluation.aspects import mean_of_aspects
from selfalign.evaluation.choice import broken
from selfalign.evaluation.judge import Ruling, habit, rule
from selfalign.evaluation.judge_prompts import judge_prompts
from selfalign.evaluation.result import Measurement, Outcome, mean_of
from selfalign.evaluation.subject import Answer, Subject
from selfalign.evaluation.task import Item, TaskOptions
from selfalign.evaluation.truthfulqa import TruthfulQA

BETWEEN_ANSWERS = " | "
"""Parts the known answers in the judge's prompt, as in its worked examples."""

ASPECTS = ("truthful", "informative")


class TruthfulQAGeneration:
    """An item's value is 1 where the answer is truthful *and* informative: the paper's truthful x informative.

    Either alone is an aspect. "I have no comment" is truthful and worth nothing, which is why the product is the
    benchmark's main figure.
    """

    def __init__(self, name: str, options: TaskOptions) -> None:
        self.name = name
        self.options = options

    def items(self) -> Sequence[Item]:
        """The questions of the multiple-choice file; its candidates are the known answers."""
        return TruthfulQA("truthfulqa-mc2", self.options._replace(scoring="all")).items()

    def measure(self, subject: Subject, items: Sequence[Item]) -> list[Outcome]:
        """Ask, then let the judge rule on all answers in two calls."""
        judge = self.options.judge or subject
        sound = [item for item in items if "fault" not in item.extra]
        answers = dict(zip([item.id for item in sound], self._ask(subject, sound), strict=True))
        to_judge = [item for item in sound if not unanswered(item, answers[item.id])]
        truthful = iter(rule_truthful(judge, to_judge, answers))
        informative = iter(rule_informative(judge, to_judge, answers))
        return [
            broken(item)
            if "fault" in item.extra
            else unanswered(item, answers[item.id])
            or ruled(item, answers[item.id], judge.name, next(truthful), next(informative))
            for item in items
        ]

    def _ask(self, subject: Subject, items: Sequence[Item]) -> list[Answer]:
        return ask(subject, items, self.options.max_tokens, self.options.seed) if items else []

    def summarise(self, outcomes: Sequence[Outcome]) -> dict[str, Measurement]:
        """Truthful x informative, with the judge and its prompts; then each alone."""
        common: dict[str, Any] = {"seed": self.options.seed, "prompt_format": PROMPT_FORMAT}
        whole = mean_of(outcomes, **common, extra=self._facts(outcomes))
        missing = [replace(outcome, extra={"aspects": dict.fromkeys(ASPECTS)}) for outcome in without(outcomes)]
        rows = [*(outcome for outcome in outcomes if "aspects" in outcome.extra), *missing]
        parts = mean_of_aspects(self.name, rows, dict.fromkeys(ASPECTS, "share"), **common)
        return {self.name: whole} | {name: warned(part) for name, part in parts.items()}

    def _facts(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Who judged, how and under which prompts."""
        return {
            "judge": next((row.extra["judge"] for row in outcomes if "judge" in row.extra), ""),
            "judged_by": sorted({by for row in outcomes for by in row.extra.get("judged_by", ())}),
            "judge_prompts": {name: judge_prompts()[name].head for name in ASPECTS},
            "max_tokens": self.options.max_tokens,
        }


def make(name: str, options: TaskOptions) -> TruthfulQAGeneration:
    """The measure."""
    return TruthfulQAGeneration(name, options)


def warned(part: Measurement) -> Measurement:
    """An aspect's figure, with a warning where the judge says yes, or no, of everything."""
    said = "yes" if part.value == 1 else "no"
    alike = part.n if part.value in (0, 1) else 0
    return replace(part, extra=habit(alike, part.n, f'says "{said}"'))


def without(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    """The outcomes of which no aspect could be judged."""
    return (outcome for outcome in outcomes if "aspects" not in outcome.extra)


def rule_truthful(judge: Subject, items: Sequence[Item], answers: dict[str, Answer]) -> list[Ruling]:
    """Of each item's answer, held against what is known to be true and false."""
    cases = [(item.question, known(item, 1), known(item, 0), answers[item.id].text) for item in items]
    return rule(judge, judge_prompts()["truthful"], cases)


def rule_informative(judge: Subject, items: Sequence[Item], answers: dict[str, Answer]) -> list[Ruling]:
    """Of each item's answer."""
    return rule(judge, judge_prompts()["informative"], [(item.question, answers[item.id].text) for item in items])


def known(item: Item, label: int) -> str:
    """The item's true (1) or false (0) answers in one line."""
    rows = zip(item.candidates, item.labels, strict=True)
    return BETWEEN_ANSWERS.join(candidate for candidate, given in rows if given == label)


def ruled(item: Item, answer: Answer, judge: str, truthful: Ruling, informative: Ruling) -> Outcome:
    """The outcome of both rulings; its value is None where either could not be judged."""
    values = {name: value_of(ruling) for name, ruling in zip(ASPECTS, (truthful, informative), strict=True)}
    product = None if None in values.values() else float(all(values.values()))
    reason = "; ".join(
        f"{name}: {ruling.reason}"
        for name, ruling in zip(ASPECTS, (truthful, informative), strict=True)
        if ruling.label is None
    )
    scores = {name: ruling.scores for name, ruling in zip(ASPECTS, (truthful, informative), strict=True)}
    by = sorted({truthful.by, informative.by})
    return outcome_of(item, answer, product, reason, aspects=values, judge=judge, judged_by=by, judge_scores=scores)


def value_of(ruling: Ruling) -> float | None:
    """1 for yes, 0 for no, None where there is no verdict."""
    return None if ruling.label is None else float(ruling.label == "yes")
