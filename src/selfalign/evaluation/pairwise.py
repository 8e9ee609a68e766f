"""Pairwise judging: of two models' answers to open questions the better one, length taken into account.

Every pair is judged in both orders, because judges like a place (Zheng et al. 2023, arXiv 2306.05685, section 3.3): a
model wins where it is preferred in both; where the orders disagree, or the judge finds both equal, it is a tie. A tie
counts half. Beside the raw win rate stands the one at equal length (`length_control`), so that nobody wins by length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from selfalign.errors import UserError
from selfalign.evaluation.answering import PROMPT_FORMAT, ask, unanswered
from selfalign.evaluation.judge import Ruling, habit, rule
from selfalign.evaluation.judge_prompts import judge_prompts
from selfalign.evaluation.length_control import length_controlled
from selfalign.evaluation.questions import load_questions
from selfalign.evaluation.result import Measurement, Outcome, mean_of
from selfalign.evaluation.subject import Answer, Subject
from selfalign.evaluation.task import Item, TaskOptions
from selfalign.filters.words import count_words

PROMPT = "better"
FIRST, SECOND = "1", "2"

MIN_PAIRS = 10
"""Fewer judged pairs bear no regression on length: the raw rate stands alone then."""


class Pair(NamedTuple):
    """Our answer and theirs."""

    ours: Answer
    theirs: Answer


class Pairwise:
    """An item's value is 1 where the subject's answer is better than the opponent's, 0 where worse, 0.5 for a tie.

    The opponent is `options.opponent`, or else the judge's own model, which for a tuned model is its base.
    """

    def __init__(self, name: str, options: TaskOptions) -> None:
        self.name = name
        self.options = options

    def items(self) -> Sequence[Item]:
        """The open questions, categories in turn."""
        return load_questions("open_questions", self.options.data, self.options.limit)

    def measure(self, subject: Subject, items: Sequence[Item]) -> list[Outcome]:
        """Both answer, and the judge rules on each pair twice."""
        opponent = self.options.opponent or self.options.judge
        if opponent is None or opponent is subject:
            raise UserError(
                f"pairwise needs a model to hold {subject.name}'s answers against",
                "selfalign compare A B --tasks pairwise",
            )
        ours = ask(subject, items, self.options.max_tokens, self.options.seed)
        theirs = ask(opponent, items, self.options.max_tokens, self.options.seed)
        return judge_pairs(self.options.judge or subject, items, ours, theirs, opponent.name)

    def summarise(self, outcomes: Sequence[Outcome]) -> dict[str, Measurement]:
        """Raw and length-controlled win rate."""
        return summarise_pairs(outcomes, self.options.seed, self.name)


def make(name: str, options: TaskOptions) -> Pairwise:
    """The measure."""
    return Pairwise(name, options)


def judge_pairs(
    judge: Subject, items: Sequence[Item], ours: Sequence[Answer], theirs: Sequence[Answer], opponent: str = ""
) -> list[Outcome]:
    """The outcome of each pair of answers, `ours` the one that may win."""
    pairs = [Pair(*pair) for pair in zip(ours, theirs, strict=True)]
    sound = [at for at, (item, pair) in enumerate(zip(items, pairs, strict=True)) if not missing(item, pair)]
    forwards = [(items[at].question, pairs[at].ours.text, pairs[at].theirs.text) for at in sound]
    backwards = [(question, theirs_text, ours_text) for question, ours_text, theirs_text in forwards]
    rulings = rule(judge, judge_prompts()[PROMPT], [*forwards, *backwards])
    ruled = {at: (rulings[place], rulings[place + len(sound)]) for place, at in enumerate(sound)}
    facts = {"judge": judge.name, "opponent": opponent}
    return [
        missing(item, pair) or decided(item, pair, *ruled[at], facts)
        for at, (item, pair) in enumerate(zip(items, pairs, strict=True))
    ]


def missing(item: Item, pair: Pair) -> Outcome | None:
    """The outcome where either did not answer."""
    return unanswered(item, pair.ours) or unanswered(item, pair.theirs)


def decided(item: Item, pair: Pair, forwards: Ruling, backwards: Ruling, facts: dict[str, Any]) -> Outcome:
    """A win, a loss or a tie; not judged where either order was not."""
    difference = count_words(pair.ours.text) - count_words(pair.theirs.text)
    extra = facts | {
        "orders": [forwards.label, backwards.label],
        "judge_scores": [forwards.scores, backwards.scores],
        "judged_by": sorted({forwards.by, backwards.by}),
        "length_difference": difference,
    }
    value = None if None in extra["orders"] else preference(str(forwards.label), str(backwards.label))
    texts = {"prompt": item.question, "candidates": (pair.ours.text, pair.theirs.text)}
    reason = "; ".join(dict.fromkeys(filter(None, (forwards.reason, backwards.reason))))
    return Outcome(item.id, value, reason, item.group, **texts, extra=extra)  # type: ignore[arg-type]


def preference(forwards: str, backwards: str) -> float:
    """1 where we are preferred in both orders (standing first, then second), 0 where they are, else 0.5."""
    return {(FIRST, SECOND): 1.0, (SECOND, FIRST): 0.0}.get((forwards, backwards), 0.5)


def summarise_pairs(outcomes: Sequence[Outcome], seed: int = 0, name: str = "pairwise") -> dict[str, Measurement]:
    """`name`: the raw win rate; `name`/length-controlled: that at equal length, where there are enough pairs."""
    judged = [outcome for outcome in outcomes if outcome.value is not None]
    raw = mean_of(outcomes, seed=seed, chance=0.5, prompt_format=PROMPT_FORMAT, extra=facts_of(judged))
    if len(judged) < MIN_PAIRS:
        return {name: raw}
    return {name: raw, f"{name}/length-controlled": controlled(judged, len(outcomes) - len(judged), seed)}


def facts_of(judged: Sequence[Outcome]) -> dict[str, Any]:
    """Wins, ties, losses, what the judge's liking for a place did, and the prompt it read."""
    orders = [outcome.extra["orders"] for outcome in judged]
    by_place = sum(order in ([FIRST, FIRST], [SECOND, SECOND]) for order in orders)
    return habit(by_place, len(judged), "prefers a place, whichever answer stands there,") | {
        "judge": judged[0].extra["judge"] if judged else "",
        "opponent": judged[0].extra["opponent"] if judged else "",
        "judged_by": sorted({by for outcome in judged for by in outcome.extra["judged_by"]}),
        "wins": sum(outcome.value == 1 for outcome in judged),
        "losses": sum(outcome.value == 0 for outcome in judged),
        "ties": sum(outcome.value == 0.5 for outcome in judged),
        "ties_by_place": by_place,
        "mean_length_difference": mean([outcome.extra["length_difference"] for outcome in judged]),
        "judge_prompt": judge_prompts()[PROMPT].head,
    }


def mean(values: Sequence[float]) -> float | None:
    """To one decimal; None of nothing."""
    return round(sum(values) / len(values), 1) if values else None


def controlled(judged: Sequence[Outcome], unjudged: int, seed: int) -> Measurement:
    """The win rate at equal length."""
    found = length_controlled(
        [outcome.value or 0.0 for outcome in judged], [outcome.extra["length_difference"] for outcome in judged], seed
    )
    extra = {"length_slope": round(found.slope, 4), "extrapolated": found.extrapolated}
    return Measurement(
        found.win_rate,
        len(judged),
        found.interval,
        chance=0.5,
        prompt_format=PROMPT_FORMAT,
        unjudged=unjudged,
        method=found.method,
        extra=extra,
    )
