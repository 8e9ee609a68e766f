"""The thread that drives a batcher: requests go in between two steps, their progress goes out to the event loops.

Everything that touches the model happens on this one thread. A user is an `asyncio.Queue` in some event loop; all
that a step brought to a loop goes there in one call.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from selfalign.engines.batching import Batcher, BatchFailed, Progress, Ticket
from selfalign.errors import EngineFailed, UserError

logger = logging.getLogger(__name__)

PROBE_EVERY = 1.0
"""Seconds between two tries of an engine that failed."""

PATIENCE = 10.0
"""Seconds that an engine may fail such tries before whoever is still in the batch is told."""

STUCK = 120.0
"""Seconds of a step beyond which nobody else should be sent here."""

CLOSING = 30.0
"""Seconds that the step in hand may take when the server stops."""

News = Progress | UserError


class Overloaded(UserError):
    """The queue is full, or the engine is not ready. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message, f"try again in {retry_after} s", exit_code=1)
        self.retry_after = retry_after


class User(NamedTuple):
    """Where the news of a request go."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[News]


class Failure(NamedTuple):
    """What is told to the users of a batch that failed."""

    keys: Sequence[str]
    message: str
    hint: str


class Scheduler:
    """`most` is how many requests may be running and waiting in all."""

    def __init__(self, batcher: Batcher, most: int) -> None:
        self.batcher = batcher
        self.most = most
        self.users: dict[str, User] = {}
        self._inbox: list[Ticket] = []
        self._left: set[str] = set()
        self._wake = threading.Condition()
        self._closing = self._failed = False
        self._stepping: float | None = None
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether a request that comes now would be worked on."""
        began = self._stepping
        is_stuck = began is not None and time.monotonic() - began > STUCK
        return self._thread.is_alive() and not (self._failed or self._closing or is_stuck)

    @property
    def waiting(self) -> int:
        """Requests that the batcher has not seen yet."""
        return len(self._inbox)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Fail what is left, stop the thread and free the model."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSING)
            if self._thread.is_alive():
                logger.error("a step does not end; the process is left without freeing the model")

    async def write(self, ticket: Ticket) -> AsyncGenerator[Progress, None]:
        """The progress of a request, the last with its completion.

        Leaving the iterator frees the slot before the next step. Raises Overloaded, or what the engine raised.
        """
        user = User(asyncio.get_running_loop(), asyncio.Queue())
        key = ticket.request.key
        self._submit(ticket, user)
        try:
            while True:
                news = await user.queue.get()
                if isinstance(news, UserError):
                    raise news
                yield news
                if news.completion:
                    return
        finally:
            self._leave(key)

    def _submit(self, ticket: Ticket, user: User) -> None:
        with self._wake:
            if not self.is_ready:
                raise Overloaded("the engine is not ready")
            if len(self.users) >= self.most:
                raise Overloaded(f"{len(self.users)} requests are running or waiting; no more are taken")
            self.users[ticket.request.key] = user
            self._inbox.append(ticket)
            self._wake.notify()

    def _leave(self, key: str) -> None:
        with self._wake:
            if self.users.pop(key, None):
                self._left.add(key)
                self._wake.notify()

    def _run(self) -> None:
        """Until closed: let in and out, make a step, tell. What fails is given up, and this thread goes on."""
        try:
            while not self._closing:
                self._let_in_and_out()
                if self.batcher.is_busy and not self._closing:
                    self._attempt(self._step)
        finally:
            self._closing = True
            self._tell((key, EngineFailed("the server is stopping")) for key in self._keys())
            self.batcher.close()

    def _step(self) -> None:
        self._stepping = time.monotonic()
        try:
            self._tell((one.key, one) for one in self.batcher.step())
        finally:
            self._stepping = None

    def _let_in_and_out(self) -> None:
        """Wait until there is something to do, and do it where it is someone who comes or goes."""
        with self._wake:
            while not (self._closing or self._inbox or self._left or self.batcher.is_busy):
                self._wake.wait()
            tickets, self._inbox = self._inbox, []
            left, self._left = self._left, set()
        for key in left:
            self._attempt(partial(self.batcher.drop, key), key)
        for ticket in tickets:
            if ticket.request.key in self.users:  # else gone before it began
                self._attempt(partial(self.batcher.add, ticket), ticket.request.key)

    def _attempt(self, work: Callable[[], None], key: str = "") -> None:
        """Do it. What it raises is told to the users it names, else to `key`, else to everyone in the batch."""
        if failure := self._failure(work, key):
            self._give_up(failure)

    def _failure(self, work: Callable[[], None], key: str) -> Failure | None:
        """What `work` raised, without its traceback, which would hold the memory of the batch that failed."""
        try:
            work()
        except BatchFailed as fault:
            return Failure(fault.keys, fault.message, fault.hint)
        except UserError as fault:
            if key:
                self._tell([(key, fault)])
                return None
            return Failure(self._keys(), fault.message, fault.hint)
        except Exception as fault:
            logger.exception("the engine failed")
            return Failure((key,) if key else self._keys(), f"{type(fault).__name__}: {fault}", "")
        return None

    def _keys(self) -> tuple[str, ...]:
        """Everyone whom the batcher was told of; a stopping server waits for nobody else either."""
        with self._wake:
            new = set() if self._closing else {ticket.request.key for ticket in self._inbox}
            return tuple(key for key in self.users if key not in new)

    def _tell(self, news: Iterable[tuple[str, News]]) -> None:
        """Put each into its user's queue, with one call a loop. Who ends is forgotten."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[News], News]]] = defaultdict(list)
        with self._wake:
            for key, one in news:
                ends = isinstance(one, UserError) or one.completion is not None
                user = self.users.pop(key, None) if ends else self.users.get(key)
                if user:
                    by_loop[user.loop].append((user.queue, one))
        for loop, deliveries in by_loop.items():
            try:
                loop.call_soon_threadsafe(deliver, deliveries)
            except RuntimeError:  # that loop was closed under its users
                logger.warning("an event loop with %d requests is gone", len(deliveries))

    def _give_up(self, failure: Failure) -> None:
        """Tell the users of a failed batch, and let nobody in until the engine works again."""
        self._failed = True
        self._end(*failure)
        began = time.monotonic()
        while not (self._closing or self._works()):
            if time.monotonic() - began > PATIENCE:
                self._end(self._keys(), failure.message, "the engine does not come back; try again later")
            with self._wake:
                self._wake.wait_for(lambda: self._closing, PROBE_EVERY)
        self._failed = False

    def _end(self, keys: Sequence[str], message: str, hint: str) -> None:
        """Write no further for these users, and for those whose slots fail with theirs."""
        ended = list(keys)
        for key in keys:
            try:
                self.batcher.drop(key)
            except BatchFailed as fault:
                ended += fault.keys
        self._tell((key, EngineFailed(message, hint)) for key in ended)

    def _works(self) -> bool:
        """Whether the engine writes a token."""
        try:
            self.batcher.probe()
        except Exception as fault:
            logger.error("the engine does not work yet: %s: %s", type(fault).__name__, fault)
            return False
        return True


def deliver(deliveries: list[tuple[asyncio.Queue[News], News]]) -> None:
    """In the users' own loop."""
    for queue, news in deliveries:
        queue.put_nowait(news)
