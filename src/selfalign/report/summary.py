"""The report's first paragraph: the run in plain words, computed from its numbers."""

from __future__ import annotations

from selfalign.evaluation.statistics import Interval
from selfalign.report.gates import Gate, Rounds
from selfalign.report.held_out import HeldOut, Variant
from selfalign.report.ledger import Ledger
from selfalign.report.read import base_name
from selfalign.report.stages import GENERATING, StageRow
from selfalign.report.training import Training
from selfalign.report.words import count, decimal, duration, listed, percent, plural


def summary(
    base_model: str,
    lines: Ledger | None,
    rows: list[StageRow],
    fine_tunings: list[Training],
    comparison: HeldOut | None,
    gates: list[Gate],
    rounds: Rounds | None,
) -> str:
    """One paragraph; what has not run yet is left out, and said at its end."""
    sentences = [
        ledger_sentence(base_model, lines),
        data_sentence(rows),
        rounds_sentence(rounds),
        training_sentence(fine_tunings),
        *(gate_sentence(gate) for gate in gates if not gate.passed),
        comparison_sentence(comparison),
        end_sentence(rows),
    ]
    return " ".join(filter(None, sentences))


def ledger_sentence(base_model: str, lines: Ledger | None) -> str:
    """What went in."""
    if lines is None:
        return f"The base model is {base_model}."
    beside = f" (all that a human wrote has {count(lines.all_lines)} lines)" if lines.all_lines else ""
    written = plural(lines.paper_total, "human-written line")
    return f"{base_model} is aligned with {written} by the paper’s count{beside}."


def data_sentence(rows: list[StageRow]) -> str:
    """What was generated and kept."""
    kept = [
        f"{count(row.accepted)} {row.name} of {plural((row.accepted or 0) + (row.rejected or 0), 'candidate')}"
        for row in rows
        if base_name(row.name) in GENERATING and row.accepted
    ]
    return f"The filters kept {listed(kept)}." if kept else ""


def training_sentence(fine_tunings: list[Training]) -> str:
    """What the fine-tunings did to the validation loss."""
    moves = []
    for training in fine_tunings:
        before, after = (training.figures.get(name) for name in ("validation_loss_before", "validation_loss"))
        if before is not None and after is not None:
            moved = "lowered" if after < before else "did not lower"
            moves.append(f"{training.stage} {moved} the validation loss ({decimal(before)} to {decimal(after)})")
    text = listed(moves)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def gate_sentence(gate: Gate) -> str:
    """What a model failed in."""
    reasons = [check.reason for check in gate.checks if not check.passed]
    return f"The model of {gate.stage} failed its gate: {listed(reasons)}."


def rounds_sentence(rounds: Rounds | None) -> str:
    """Which round is kept."""
    if rounds is None:
        return ""
    kept = next((row.number for row in rounds.rows if row.is_kept), 1)
    why = f", because of {rounds.stopped}" if rounds.stopped else ""
    return f"Round {kept} of {len(rounds.rows)} is kept{why}."


def comparison_sentence(comparison: HeldOut | None) -> str:
    """Whether the final model ends its answers, against the base model, and what the figures allow to say."""
    final, base = (comparison.variant(name) if comparison else None for name in ("final", "base"))
    if final is None or final.interval is None:
        return ""
    share, ends = percent(final.share), bounds(final.interval)
    text = f"On held-out instructions the final model ended {final.stopped} of {final.n} answers by itself"
    text += f" ({share}, Wilson 95% interval {ends})"
    if base is not None and base.interval is not None:
        text += f", the base model without a prompt {base.stopped} of {base.n}"
        text += f" ({percent(base.share)}, {bounds(base.interval)}){caution(final.interval, base.interval)}"
    return f"{text}; {leaks(final)}."


def bounds(interval: Interval) -> str:
    """`83% to 99%`."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def caution(first: Interval, second: Interval) -> str:
    """Said where two intervals overlap."""
    return ", intervals that overlap" if first.low <= second.high and second.low <= first.high else ""


def leaks(variant: Variant) -> str:
    """How many answers of a variant show text that training should have pruned."""
    return f"{count(variant.leaks) if variant.leaks else 'none'} of the final model’s answers leaked"


def end_sentence(rows: list[StageRow]) -> str:
    """What it cost, and what is still missing."""
    spent = sum(row.seconds or 0.0 for row in rows)
    parts = [f"The stages took {duration(spent)}."] if spent else []
    for state, words in (
        ("running", "Running now"),
        ("stopped", "Stopped in"),
        ("failed", "Failed"),
        ("pending", "Not run yet"),
    ):
        names = [row.name for row in rows if row.state == state]
        parts += [f"{words}{' ' if words.endswith(' in') else ': '}{listed(names)}."] if names else []
    return " ".join(parts)
