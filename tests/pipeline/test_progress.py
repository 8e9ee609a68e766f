"""What is told while a stage runs: lines, rates, time left, cost, and the file for schedulers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.base import Completion
from selfalign.errors import UserError
from selfalign.pipeline.board import PROGRESS, Board, read_progress
from selfalign.pipeline.cost import in_words, span
from selfalign.pipeline.estimate import estimate, format_estimate
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.pace import POINTS, Pace
from selfalign.pipeline.progress import Progress
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.recipe import PriceOptions
from selfalign.records import Tokens
from tests.support.runs import run, small_recipe

PRICE = PriceOptions(prompt=1.0, completion=4.0, hour=2.0, currency="EUR")


class Clock:
    """A clock that is set by hand."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def a_completion(tokens: Tokens) -> Completion:
    return Completion("key", "text", "eos", tokens)


# ---------------------------------------------------------------------------------------------------------------- pace


def test_a_rate_is_that_of_its_window() -> None:
    pace = Pace(window=100, time=0)
    assert (pace.per_second, pace.seconds_left(5, goal=10)) == (0.0, None)
    for time in range(10, 310, 10):
        pace.note(time, time if time <= 200 else 200 + 3 * (time - 200))
    assert pace.per_second == pytest.approx(3.0)
    assert pace.seconds_left(300, goal=800) == pytest.approx(100)
    assert pace.seconds_left(360, goal=800) == pytest.approx(40), "time passes between two counts"
    assert pace.seconds_left(401, goal=800) == pytest.approx(201), "overdue: 300 in the 201 s since the window began"
    assert pace.seconds_left(1000, goal=800) == pytest.approx(800)
    assert pace.seconds_left(300, goal=500) == 0.0


def test_a_pace_that_is_told_often_stays_small() -> None:
    pace = Pace(window=60, time=0)
    for i in range(100_000):
        pace.note(i / 500, 2 * i)
    assert len(pace.points) <= POINTS + 3
    assert pace.per_second == pytest.approx(1000, rel=0.01)


def test_what_was_done_in_an_earlier_session_is_no_speed_of_this_one() -> None:
    pace = Pace(window=60, time=0, count=5000)
    pace.note(10, 5010)
    assert pace.per_second == pytest.approx(1.0)


# ---------------------------------------------------------------------------------------------------------------- cost


def test_cost_is_tokens_by_the_million_and_hours() -> None:
    assert PRICE.charge(2_000_000, 500_000, 1800) == pytest.approx(2 + 2 + 1)
    assert PriceOptions().charge(2_000_000, 500_000, 1800) is None
    assert in_words(Tokens(2_000_000, 500), 1.5, "EUR") == "2,000,000 prompt and 500 new tokens, 1.50 EUR"
    assert [span(seconds) for seconds in (None, 4.4, 250, 7500)] == ["", "4 s", "4 min 10 s", "2 h 05 min"]


def test_an_estimate_tells_the_cost_where_there_is_a_price(tmp_path: Path) -> None:
    rows = estimate(small_recipe(tmp_path), tmp_path / "run")
    assert " EUR at the recipe's prices" in format_estimate(rows, PRICE)
    assert "at the recipe's prices" not in format_estimate(rows, PriceOptions())


# --------------------------------------------------------------------------------------------------------------- lines


def test_a_line_comes_every_minute_where_there_is_no_terminal(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Board(RunDirectory(tmp_path), PRICE, clock)
    progress = Progress("responses", 400, board=board, clock=clock)
    for second in range(1, 151):
        clock.time += 1
        progress.completion(a_completion(Tokens(1000, 50)))
        if second % 10 == 0:
            progress.judged(second, second // 3)
        progress.tick()
    progress.close()
    first, second_line = capsys.readouterr().err.splitlines()
    assert first == (
        "responses: 60 of 400 records (15%), 75% yield, 1 records/s, 50 tokens/s, 5 min 40 s left; "
        "so far 60,000 prompt and 3,000 new tokens, 0.11 EUR"
    )
    assert second_line.startswith("responses: 120 of 400 records (30%)")


def test_a_line_comes_though_the_engine_keeps_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("topics", 8, clock=clock)
    clock.time += 61
    progress.tick()
    progress.close()
    assert capsys.readouterr().err == "topics: 0 of 8 records (0%)\n"


def test_a_training_tells_its_loss(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("engrave", 1, unit="step", clock=clock)
    clock.time += 60
    progress.step(6, 27, "loss 2.529")
    progress.tick()
    progress.close()
    assert capsys.readouterr().err == "engrave: 6 of 27 steps (22%), loss 2.529, 0.1 steps/s, 3 min 30 s left\n"


# -------------------------------------------------------------------------------------------------------- progress.json


def test_the_file_tells_how_far_the_run_is(tmp_path: Path, clock: Clock) -> None:
    directory = RunDirectory(tmp_path)
    directory.stages["topics"] = StageState("done", seconds=90.0, tokens=Tokens(500, 10))
    board = Board(directory, PRICE, clock)
    board.begin("instructions")
    progress = Progress("instructions", 100, done=10, board=board, clock=clock)
    clock.time += 20
    progress.completion(a_completion(Tokens(1000, 40)))
    progress.judged(30, 10)
    progress.close()
    told = json.loads((tmp_path / PROGRESS).read_text(encoding="utf-8"))
    times = [told.pop(name) for name in ("started", "updated", "host")]
    assert all(times)
    assert told == {
        "state": "running",
        "stage": "instructions",
        "stages_done": 1,
        "stages": 8,
        "now": {
            "name": "instructions",
            "unit": "record",
            "done": 30,
            "goal": 100,
            "accepted": 30,
            "rejected": 10,
            "yield": 0.75,
            "per_second": 1.0,
            "tokens_per_second": 2.0,
            "seconds_left": 70.0,
            "tokens": {"prompt": 1000, "completion": 40},
        },
        "seconds": 110.0,
        "tokens": {"prompt": 1500, "completion": 50},
        "cost": round((1500 + 4 * 50) / 1e6 + 2 * 110 / 3600, 4),
        "currency": "EUR",
        "pid": os.getpid(),
    }
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("fault", "state"),
    [(None, "done"), (KeyboardInterrupt(), "stopped"), (UserError("no engine"), "failed"), (OSError("x"), "failed")],
)
def test_how_a_session_ended_is_told(tmp_path: Path, fault: BaseException | None, state: str) -> None:
    board = Board(RunDirectory(tmp_path), PRICE)

    def session(work: Callable[[], None]) -> None:
        with board.told():
            board.begin("topics")
            work()

    def fail() -> None:
        if fault:
            raise fault

    if fault:
        with pytest.raises(type(fault)):
            session(fail)
    else:
        session(fail)
    told: Any = read_progress(tmp_path)
    assert told["state"] == state
    assert told.get("failure") == {"done": None, "stopped": None}.get(state, str(getattr(fault, "message", fault)))


def test_a_process_that_is_gone_is_told_as_interrupted(tmp_path: Path) -> None:
    board = Board(RunDirectory(tmp_path), PRICE)
    board.begin("topics")
    assert read_progress(tmp_path) and read_progress(tmp_path)["state"] == "running"  # type: ignore[index]
    path = tmp_path / PROGRESS
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 99999999'))
    assert read_progress(tmp_path)["state"] == "interrupted"  # type: ignore[index]
    path.write_text("{")
    assert read_progress(tmp_path) is None


def test_a_run_whose_progress_cannot_be_written_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run" / PROGRESS).mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text('{"stages": {}}', encoding="utf-8")
    board = Board(RunDirectory(tmp_path / "run"), PRICE)
    board.begin("topics")


def test_a_run_leaves_its_progress_and_a_price_may_change_between_sessions(tmp_path: Path) -> None:
    run(small_recipe(tmp_path), tmp_path / "run", until="topics")
    first: Any = read_progress(tmp_path / "run")
    assert (first["state"], first["cost"], first["stages_done"]) == ("done", None, 1)
    run(small_recipe(tmp_path, price={"completion": 1000.0}), tmp_path / "run", until="instructions")
    second: Any = read_progress(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    tokens = sum(row["tokens"]["completion"] for row in manifest.values())
    assert second["tokens"]["completion"] == tokens > first["tokens"]["completion"]
    assert second["cost"] == pytest.approx(tokens / 1000, abs=1e-3)
