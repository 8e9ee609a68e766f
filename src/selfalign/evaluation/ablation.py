"""What a part of the constitution is worth: the responses with it and without it, instruction by instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selfalign.evaluation.comparison import Row, adjusted, differences
from selfalign.evaluation.refuses import refuses
from selfalign.evaluation.result import Outcome, mean_of
from selfalign.records import Record

WHOLE = "whole"
"""The side that leaves nothing out."""

Values = Mapping[str, float]
"""Instruction, or held-out row -> value."""

LOSS = "held-out loss"

Responses = Mapping[str, Record]
"""Instruction -> the accepted response to it."""

UNITS = {"words": "words", "principles a thought": "principles", LOSS: "nats a token"}
"""Of the measures that are no shares."""


class Side(NamedTuple):
    """One side: its accepted responses, and the principles that stood in its prompt."""

    responses: Responses
    names: Mapping[int, str]


def compared(
    sample: Sequence[str], sides: Mapping[str, Side], losses: Mapping[str, Values] | None = None, seed: int = 0
) -> list[Row]:
    """A row a measure: the figure of either side, and the paired difference, adjusted over the whole table.

    `sides` holds `WHOLE` first. A figure of responses is over all that a side answered, a difference over what both
    answered; there is none in the use of a principle that one side does not know.
    """
    values = {name: measures(sample, side) for name, side in sides.items()}
    for name, found in (losses or {}).items():
        values.setdefault(name, {})[LOSS] = found
    measured = dict.fromkeys(measure for found in values.values() for measure in found)
    rows = [
        row_of(measure, {name: v[measure] for name, v in values.items() if measure in v}, seed) for measure in measured
    ]
    return adjusted(rows)


def measures(sample: Sequence[str], side: Side) -> dict[str, Values]:
    """Measure -> instruction -> value, of one side."""
    texts = {key: record.assistant for key, record in side.responses.items()}
    thoughts = {key: record.principles for key, record in side.responses.items() if record.thought}
    found: dict[str, Values] = {
        "answered": {key: float(key in texts) for key in sample},
        "words": {key: float(len(text.split())) for key, text in texts.items()},
        "refused": {key: float(refuses(text).found) for key, text in texts.items()},
    }
    if thoughts:
        found["principles a thought"] = {key: float(len(cited)) for key, cited in thoughts.items()}
        for number, name in side.names.items():
            found[f"cites {number} ({name})"] = {key: float(number in cited) for key, cited in thoughts.items()}
    return found


def row_of(measure: str, values: Mapping[str, Values], seed: int) -> Row:
    """One measure of both sides."""
    figures = {
        side: mean_of(
            [Outcome(key, value) for key, value in found.items()], seed=seed, unit=UNITS.get(measure, "share")
        )
        for side, found in values.items()
    }
    return Row(measure, figures, differences(values, (WHOLE,), seed))
