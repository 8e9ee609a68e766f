"""What is asked of a model that was trained: its answers, the gate, and what ends the rounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selfalign.recipe.section import Count, Positive, Probability, Section, Share, Temperature, option
from selfalign.recipe.stages import SamplingOptions


class EvaluateOptions(SamplingOptions):
    """Side-by-side answers on held-out instructions (paper: T 0.7)."""

    temperature: Temperature = option(0.7, "0 is greedy")
    top_p: Probability = option(0.95, "nucleus sampling mass")
    max_tokens: Positive = option(256, "most new tokens of an answer")
    held_out: Count = option(40, "accepted instructions kept out of all training")
    tasks: tuple[str, ...] = option((), "tasks of `selfalign eval` that every stage's model is measured on, in pairs")
    limit: Count = option(0, "most questions of a task (of each subset); 0 takes all")


class GateOptions(SamplingOptions):
    """What a trained model must show on rows held out of its training, before anything is made from it."""

    temperature: Temperature = option(0.7, "0 is greedy")
    top_p: Probability = option(0.95, "nucleus sampling mass")
    max_tokens: Positive = option(
        512, "most new tokens of an answer, which counts as not stopped there: no fewer than elaborations.max_tokens"
    )
    rows: Count = option(16, "held-out rows that are answered; 0 turns the gate off")
    samples: Count = option(5, "answers kept to be read")
    # The embedded model: 37 of 40 answers ended once engraved, 11 of 40 before. Of 16 answers a model at 0.92 ends half
    # practically always, one at 0.27 once in 27 times.
    min_stop_rate: Share = option(0.5, "lowest share of answers that the model ends itself")
    # None of 160 answers of the demo leaked; of 8 rows one may, since a quotation can be innocent.
    max_leak_rate: Share = option(0.125, "highest share of answers that show text of the constitution")
    max_loss_ratio: Annotated[float, Field(gt=0)] = option(
        1.0, "highest held-out loss after training, over that before: above 1 it made the model worse at its own rows"
    )
    on_failure: Literal["stop", "continue"] = option(
        "stop", "stop: the run ends with status 1; continue: the model is marked and the run goes on (--keep-going)"
    )


class RoundsOptions(Section):
    """Rounds of responses and engrave, each under the model of the one before. `rounds: 2` is short for `count: 2`."""

    # Step-On-Feet Tuning, arXiv 2402.07610: late rounds degrade. A round that is worse than the one before it, by any
    # of these, is the last; the one before it is kept.
    count: Annotated[int, Field(ge=1, le=16)] = option(1, "most rounds")
    max_loss_ratio: Annotated[float, Field(gt=0)] = option(
        1.02, "highest loss on round 1's validation rows, over that of the round before"
    )
    min_yield_ratio: Share = option(0.7, "lowest share of instructions with an accepted response, likewise")
    min_words_ratio: Share = option(0.6, "lowest mean length of responses, likewise; more than its inverse is too long")
    min_variety_ratio: Share = option(0.8, "lowest share of distinct word pairs in equally many words, likewise")

    @model_validator(mode="before")
    @classmethod
    def _counted_by_one_number(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value
