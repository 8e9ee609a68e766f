"""What a user sees of a running stage: a bar on a terminal, a line every minute and at its end elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from selfalign.engines.base import Completion
from selfalign.pipeline.board import Board
from selfalign.pipeline.cost import in_words, span
from selfalign.pipeline.manifest import StageState
from selfalign.pipeline.pace import Pace
from selfalign.records import Tokens

logger = logging.getLogger("selfalign")
MINUTE = 60.0
TICK = 1.0
PACE_WINDOW = 900.0
"""Seconds that the rate of records is taken over: they come a chunk at a time, which may be minutes."""
SPEED_WINDOW = 60.0
LOGGED = ("selfalign", "py.warnings", "transformers", "trl")


class Progress:
    """One stage's state: a bar on a terminal, elsewhere a line every minute; and the run's progress.json.

    A thread of its own looks at the counts every second: a line comes however long the engine keeps silent, and telling
    the counts costs the stage next to nothing.
    """

    def __init__(
        self,
        name: str,
        goal: int,
        done: int = 0,
        unit: str = "record",
        board: Board | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.goal, self.unit, self.board, self.clock = name, goal, unit, board, clock
        self.done, self.note = done, ""
        self.accepted, self.rejected = done, 0
        self.tokens = Tokens()
        start = clock()
        self.pace = Pace(PACE_WINDOW, start, done)
        self.speed = Pace(SPEED_WINDOW, start)
        self.told = start
        self.bar = bar(name, goal, done, unit)
        self.ended = threading.Event()
        self.ticker = threading.Thread(target=self._tick_until_ended, name=f"progress of {name}", daemon=True)
        self.ticker.start()

    def completion(self, completion: Completion) -> None:
        """A completion arrived."""
        self.tokens += completion.tokens
        if self.board:
            self.board.count(completion.tokens)

    def judged(self, accepted: int, rejected: int) -> None:
        """A chunk was judged; the counts are the stage's totals."""
        self.accepted, self.rejected = accepted, rejected
        self.done = min(accepted, self.goal or accepted)
        self.pace.note(self.clock(), self.done)

    def step(self, done: int, total: int, note: str) -> None:
        """A training step."""
        self.done, self.goal, self.note = done, total, note
        self.pace.note(self.clock(), done)

    def tick(self) -> None:
        """Draw the bar, or say a line where a minute has passed, and replace the file."""
        now = self.clock()
        self.speed.note(now, self.tokens.completion)
        if not self.bar.disable:
            self.bar.total = self.goal
            self.bar.set_postfix_str(self._postfix(), refresh=False)
            self.bar.update(self.done - self.bar.n)
            self.bar.refresh()
        elif now - self.told >= MINUTE:
            self.told = now
            say(self.line)
        if self.board:
            self.board.write("running", self)

    @property
    def line(self) -> str:
        """`responses: 84 of 90 (93%), 79% yield, 1.31 records/s, 133 tokens/s, 4 s left; 437,000 prompt and ...`."""
        share = f" ({self.done / self.goal:.0%})" if self.goal else ""
        judged = self.accepted + self.rejected
        parts = [
            f"{self.name}: {self.done:,} of {self.goal:,} {self.unit}s{share}",
            self.note,
            f"{self.accepted / judged:.0%} yield" if self.rejected else "",
            f"{self.pace.per_second:.3g} {self.unit}s/s" if self.pace.per_second else "",
            f"{self.speed.per_second:.0f} tokens/s" if self.tokens.completion else "",
            f"{span(left)} left" if (left := self.pace.seconds_left(self.clock(), self.goal)) is not None else "",
        ]
        return ", ".join(filter(None, parts)) + self._spent()

    def figures(self) -> dict[str, Any]:
        """As progress.json holds them."""
        judged = self.accepted + self.rejected
        left = self.pace.seconds_left(self.clock(), self.goal)
        return {
            "name": self.name,
            "unit": self.unit,
            "done": self.done,
            "goal": self.goal,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "yield": round(self.accepted / judged, 4) if judged else None,
            "per_second": round(self.pace.per_second, 4),
            "tokens_per_second": round(self.speed.per_second, 1),
            "seconds_left": None if left is None else round(left, 1),
            "tokens": {"prompt": self.tokens.prompt, "completion": self.tokens.completion},
            **({"note": self.note} if self.note else {}),
        }

    def close(self) -> None:
        """Tell the last state, and leave the bar as it stands."""
        self.ended.set()
        self.ticker.join()
        self.told = self.clock()  # the closing line of the stage comes now
        self.tick()
        self.bar.close()

    def _spent(self) -> str:
        """What the run cost so far; empty before the first completion."""
        if self.board is None or not self.board.tokens.completion:
            return ""
        return f"; so far {in_words(self.board.tokens, self.board.cost, self.board.price.currency)}"

    def _postfix(self) -> str:
        parts = [self.note] if self.note else [f"{self.accepted} accepted, {self.rejected} rejected"]
        parts += [f"{self.speed.per_second:.0f} tokens/s"] if self.tokens.completion else []
        return ", ".join(parts)

    def _tick_until_ended(self) -> None:
        while not self.ended.wait(TICK):
            self.tick()


def bar(name: str, goal: int, done: int, unit: str) -> Any:
    """Drawn over itself on a terminal, disabled elsewhere."""
    from tqdm import tqdm

    return tqdm(
        total=goal,
        initial=done,
        desc=f"{name:13}",
        unit=unit,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        bar_format="{desc} {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}]",
        dynamic_ncols=True,
    )


def say(text: str) -> None:
    """A line for the user and the log. Where standard error is a terminal it does not break a bar."""
    from tqdm import tqdm

    logger.info(text)
    tqdm.write(text, file=sys.stderr)


class LogFile(logging.FileHandler):
    """On a full disk the log gets holes: what stopped the run is told in one line, not under a traceback a log line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Called where a line could not be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Leave the file; what is not written by now is not written."""
        with suppress(OSError):
            super().close()


def log_to(path: str) -> logging.Handler:
    """Send the package's log, and the warnings of the libraries, to a file."""
    handler = LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.captureWarnings(True)
    for name in LOGGED:
        logging.getLogger(name).addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler


def end_log(handler: logging.Handler) -> None:
    """Close the file, and take it from the loggers: a closed handler opens its file again for the next line."""
    for name in LOGGED:
        logging.getLogger(name).removeHandler(handler)
    handler.close()


def quiet_libraries() -> None:
    """Loading bars and advice of the libraries are not for the user of ours."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send logs to a file while the run goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = log_to(str(path))
    try:
        yield
    finally:
        end_log(handler)


def counts(state: StageState) -> str:
    """What a finished stage gave, for its closing line."""
    if state.training:
        return f", {loss_change(**state.training)}"
    return f", {state.accepted} accepted, {sum(state.rejected.values())} rejected" if state.judged else ""


def loss_change(
    losses: Sequence[float], validation_loss_before: float | None, validation_loss: float | None, **_: object
) -> str:
    """The validation loss before and after, or else the loss at both ends: a quarter each, since one step is noise."""
    if validation_loss_before is not None and validation_loss is not None:
        return f"validation loss {validation_loss_before:.3f} -> {validation_loss:.3f}"
    quarter = max(1, len(losses) // 4)
    return f"loss {fmean(losses[:quarter]):.3f} -> {fmean(losses[-quarter:]):.3f} (first and last quarter)"
