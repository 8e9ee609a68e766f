"""What the manifest says of each stage, and which stages a run has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from selfalign.records import Tokens

STAGES = ("topics", "instructions", "responses", "engrave", "elaborations", "clone", "evaluate", "report")
"""The stages of a run of one round."""

ROUND = ("responses", "engrave")
"""What a further round repeats."""


class StageName(NamedTuple):
    """`responses-2` is the stage `responses` of round 2; without a number it is the first round's, or has no round."""

    base: str
    round: int

    @classmethod
    def of(cls, name: str) -> StageName:
        """Read a stage's name."""
        base, _, number = name.partition("-")
        return cls(base, int(number) if number.isdecimal() else 1)

    def __str__(self) -> str:
        return self.base if self.round == 1 else f"{self.base}-{self.round}"


def stage_names(rounds: int) -> tuple[str, ...]:
    """The stages of a run of so many rounds, in order."""
    further = [str(StageName(base, number)) for number in range(2, rounds + 1) for base in ROUND]
    after = STAGES.index(ROUND[-1]) + 1
    return (*STAGES[:after], *further, *STAGES[after:])


@dataclass
class StageState:
    """How far a stage is. `jobs` counts finished jobs by part (most stages have the one part "").

    `trained_with` is the hash of the settings that `training` was done under: a run killed in the gate after it goes on
    there. `note` says why a stage was skipped.
    """

    state: str = "pending"
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    engine_seconds: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    parts: dict[str, int] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    trained_with: str = ""
    gate: dict[str, Any] | None = None
    decontamination: dict[str, Any] | None = None
    failure: str = ""
    note: str = ""

    @property
    def judged(self) -> int:
        """Accepted and rejected together."""
        return self.accepted + sum(self.rejected.values())

    def to_dict(self) -> dict[str, Any]:
        """As the manifest holds it."""
        row: dict[str, Any] = {
            "state": self.state,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 2),
            "engine_seconds": round(self.engine_seconds, 2),
            "tokens": {"prompt": self.tokens.prompt, "completion": self.tokens.completion},
            "jobs": sum(self.parts.values()),
            "parts": self.parts,
        }
        names = ("training", "trained_with", "gate", "decontamination", "failure", "note")
        return row | {name: value for name in names if (value := getattr(self, name))}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> StageState:
        """The inverse of `to_dict`."""
        fields = {name: value for name, value in row.items() if name not in ("tokens", "jobs")}
        return cls(**fields, tokens=Tokens(**row["tokens"]))
