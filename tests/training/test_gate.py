"""The gate's verdicts, and the mark that a model carries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.recipe import GateOptions
from selfalign.training.gate import GateFigures, judge, mark, outcome

GOOD = GateFigures(
    rows=16, stopped=15, leaks=1, loss_before=2.5, loss_after=2.0, mean_words=40.0, variety=0.9
)  # two leaks of 16 are allowed by default


def failures(figures: GateFigures, options: GateOptions | None = None) -> list[str]:
    return [verdict.filter for verdict in judge(figures, options or GateOptions()) if not verdict.accepted]


def test_a_model_that_stops_and_keeps_silent_and_learnt_passes_with_every_figure_said() -> None:
    verdicts = judge(GOOD, GateOptions())
    assert [verdict.filter for verdict in verdicts if verdict.accepted] == ["stop_rate", "leak_rate", "loss_ratio"]
    assert [verdict.reason for verdict in verdicts] == [
        "ended 15 of 16 answers itself (94%)",
        "text of the constitution in 1 of 16 answers (6%)",
        "held-out loss 2.500 -> 2.000 (0.80 times)",
    ]
    assert [verdict.value for verdict in verdicts] == [0.9375, 0.0625, 0.8]


@pytest.mark.parametrize(
    ("changed", "check", "reason"),
    [
        ({"stopped": 7}, "stop_rate", "ended 7 of 16 answers itself (44%), beyond min_stop_rate 50%"),
        (
            {"stopped": 3, "empty": 13},
            "stop_rate",
            "ended 3 of 16 answers itself (19%), and 13 are empty, beyond min_stop_rate 50%",
        ),
        ({"leaks": 3}, "leak_rate", "text of the constitution in 3 of 16 answers (19%), beyond max_leak_rate 12.5%"),
        ({"loss_after": 2.6}, "loss_ratio", "held-out loss 2.500 -> 2.600 (1.04 times), beyond max_loss_ratio 1"),
    ],
)
def test_each_limit_is_held_alone(changed: dict[str, float], check: str, reason: str) -> None:
    figures = GOOD._replace(**changed)
    assert failures(figures) == [check]
    gate = outcome(figures, judge(figures, GateOptions()), [])
    assert (gate["passed"], gate["reason"]) == (False, reason)


def test_a_value_at_its_limit_passes() -> None:
    assert failures(GOOD._replace(stopped=8, leaks=4, loss_after=2.5), GateOptions(max_leak_rate=0.25)) == []


def test_a_loss_that_was_not_measured_is_no_failure_and_is_said() -> None:
    figures = GOOD._replace(loss_before=None, loss_after=None)
    assert failures(figures) == []
    assert judge(figures, GateOptions())[-1].reason == "no held-out loss was measured"


def test_the_mark_is_a_file_beside_the_weights_and_a_paragraph_of_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A model\n\nLimits.\n", encoding="utf-8")
    bad = outcome(GOOD._replace(stopped=1), judge(GOOD._replace(stopped=1), GateOptions()), [{"answer": "Ünïcode"}])
    mark(tmp_path, bad)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith(
        "# A model\n\nLimits.\n\n## Gate\n\n**FAILED: do not use this model as it is**, on 16 held-out"
    )
    assert "- stop_rate: FAILED: ended 1 of 16 answers itself (6%), beyond min_stop_rate 50%\n" in card
    assert json.loads((tmp_path / "gate.json").read_text(encoding="utf-8")) == bad
    good = outcome(GOOD, judge(GOOD, GateOptions()), [])
    mark(tmp_path, good)
    mark(tmp_path, good)  # as a run that was killed here does
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.count("## Gate") == 1
    assert "FAILED" not in card and "Passed, on 16 held-out rows" in card
