"""The gate after a training: what the model's own answers to held-out rows must show before anything is made of it.

A training can end with a fine loss and a model that never stops, or recites its constitution; whatever is generated
from that model is lost time. A model that fails is kept and marked: `gate.json` beside its weights, and in its card.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.recipe import GateOptions
from selfalign.records import Verdict, write_atomically

GATE = "gate.json"
HEAD = "## Gate"


class GateFigures(NamedTuple):
    """What was measured: answers, those with words that the model ended itself, and those with constitution text.

    Losses are mean nats a learnt token over all held-out rows under the chat format alone, before and after training.
    """

    rows: int
    stopped: int
    leaks: int
    loss_before: float | None
    loss_after: float | None
    mean_words: float
    variety: float
    empty: int = 0
    """Answers without a word: a model that ends its turn at once has learnt nothing, and would pass as one that stops.
    0 in outcomes that were kept before this was counted."""


def judge(figures: GateFigures, options: GateOptions) -> list[Verdict]:
    """One verdict a figure, each with its value and reason, the accepted ones too."""
    return [stop_rate(figures, options), leak_rate(figures, options), loss_ratio(figures, options)]


def stop_rate(figures: GateFigures, options: GateOptions) -> Verdict:
    """Whether the model answers, and ends its answers."""
    share = figures.stopped / figures.rows
    said = f"ended {figures.stopped} of {figures.rows} answers itself ({share:.0%})"
    said += f", and {figures.empty} are empty" if figures.empty else ""
    passed = share >= options.min_stop_rate
    return Verdict(passed, "stop_rate", said + limit(passed, f"min_stop_rate {100 * options.min_stop_rate:g}%"), share)


def leak_rate(figures: GateFigures, options: GateOptions) -> Verdict:
    """Whether the constitution shows."""
    share = figures.leaks / figures.rows
    said = f"text of the constitution in {figures.leaks} of {figures.rows} answers ({share:.0%})"
    passed = share <= options.max_leak_rate
    return Verdict(passed, "leak_rate", said + limit(passed, f"max_leak_rate {100 * options.max_leak_rate:g}%"), share)


def loss_ratio(figures: GateFigures, options: GateOptions) -> Verdict:
    """Whether the training helped with rows that it did not see."""
    before, after = figures.loss_before, figures.loss_after
    if before is None or after is None:
        return Verdict(True, "loss_ratio", "no held-out loss was measured")
    ratio = after / before if before else float(after > 0)
    passed = ratio <= options.max_loss_ratio
    said = f"held-out loss {before:.3f} -> {after:.3f} ({ratio:.2f} times)"
    return Verdict(passed, "loss_ratio", said + limit(passed, f"max_loss_ratio {options.max_loss_ratio:g}"), ratio)


def limit(passed: bool, name: str) -> str:
    """Said where a limit is not kept."""
    return "" if passed else f", beyond {name}"


def outcome(figures: GateFigures, verdicts: Sequence[Verdict], samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the manifest and `gate.json` hold."""
    rejected = [verdict.reason for verdict in verdicts if not verdict.accepted]
    checks = [{"name": v.filter, "passed": v.accepted, "value": v.value, "reason": v.reason} for v in verdicts]
    passed = {"passed": not rejected, "reason": "; ".join(rejected)}
    return {**passed, **figures._asdict(), "checks": checks, "samples": list(samples)}


def in_words(gate: dict[str, Any]) -> str:
    """Passed or failed, with every figure, in one line."""
    return f"{'passed' if gate['passed'] else 'FAILED'}: {'; '.join(check['reason'] for check in gate['checks'])}"


def mark(directory: Path, gate: dict[str, Any]) -> None:
    """Write the outcome beside the weights, and a paragraph of it into the card. Marking twice is marking once."""
    write_atomically(directory / GATE, json.dumps(gate, indent=1, ensure_ascii=False) + "\n")
    card = directory / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    above = text.split(f"\n{HEAD}\n")[0].rstrip()
    write_atomically(card, f"{above}\n\n{HEAD}\n\n{paragraph(gate)}")


def paragraph(gate: dict[str, Any]) -> str:
    """The outcome in words."""
    head = "Passed" if gate["passed"] else "**FAILED: do not use this model as it is**"
    lines = [f"- {check['name']}: {'' if check['passed'] else 'FAILED: '}{check['reason']}" for check in gate["checks"]]
    note = f"{head}, on {gate['rows']} held-out rows (`{GATE}` has sample answers)."
    return "\n".join([note, "", *lines]) + "\n"
