"""RUN/progress.json: how far a run is, for schedulers and other programs. Replaced as a whole, so never half written.

It is no part of the data: what counts stands in run.json. So it is not synced to disk, and a fault in writing it is
passed over.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from selfalign.errors import UserError
from selfalign.pipeline.cost import tokens_of
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.recipe import PriceOptions
from selfalign.records import Tokens

PROGRESS = "progress.json"
ENDED = ("done", "skipped")


class Stand(Protocol):
    """What is told of a stage that is being worked on."""

    def figures(self) -> dict[str, Any]:
        """Name, counts and rates, as the file holds them."""
        ...


class Board:
    """The file of one run. `tokens` and `seconds` are those of the whole run, this session and earlier ones."""

    def __init__(self, run: RunDirectory, price: PriceOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = run
        self.price = price
        self.clock = clock
        self.start = clock()
        self.earlier = sum(state.seconds for state in run.stages.values())
        self.tokens = tokens_of(run.stages.values())
        self.stage = ""
        self.started = now()
        self.writing = threading.Lock()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that the run took so far."""
        return self.earlier + self.clock() - self.start

    @property
    def cost(self) -> float | None:
        """In the price's currency."""
        return self.price.charge(self.tokens.prompt, self.tokens.completion, self.seconds)

    def count(self, tokens: Tokens) -> None:
        """A completion cost these."""
        self.tokens += tokens

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self.stage = stage
        self.write("running")

    def write(self, state: str, stand: Stand | None = None, failure: str = "") -> None:
        """Replace the file. `stand` tells of the stage where there is something to count."""
        path = self.run.path / PROGRESS
        temporary = path.with_name(f".{PROGRESS}.tmp")
        text = json.dumps(self._content(state, stand, failure), indent=1, ensure_ascii=False) + "\n"
        with self.writing, contextlib.suppress(OSError):
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)

    def _content(self, state: str, stand: Stand | None, failure: str) -> dict[str, Any]:
        stages = self.run.stages
        return {
            "state": state,
            "stage": self.stage,
            "stages_done": sum(row.state in ENDED for row in stages.values()),
            "stages": len(stages),
            "now": stand.figures() if stand else None,
            "seconds": round(self.seconds, 1),
            "tokens": {"prompt": self.tokens.prompt, "completion": self.tokens.completion},
            "cost": self.cost and round(self.cost, 4),
            "currency": self.price.currency if self.cost is not None else None,
            "started": self.started,
            "updated": now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **({"failure": failure} if failure else {}),
        }

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """The end of the session is told too, if a stage was begun in it: done, failed, or stopped by Ctrl-C."""
        try:
            yield
        except KeyboardInterrupt:
            self._end("stopped")
            raise
        except BaseException as fault:
            self._end("failed", fault.message if isinstance(fault, UserError) else str(fault))
            raise
        self._end("done")

    def _end(self, state: str, failure: str = "") -> None:
        if self.stage:
            self.write(state, failure=failure)


def now() -> str:
    """This moment, to the second, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_progress(run: Path) -> dict[str, Any] | None:
    """What the file says, or None. Of a process of this machine that is gone it says `interrupted`, not `running`."""
    try:
        content: dict[str, Any] = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
        if content["state"] == "running" and content["host"] == socket.gethostname() and not is_alive(content["pid"]):
            content["state"] = "interrupted"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content


def is_alive(process: int) -> bool:
    """Whether a process of that number runs here; one of another user does."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
