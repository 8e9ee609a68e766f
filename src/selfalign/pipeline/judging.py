"""Judging behind generation: the engine is at the next chunk while the last ones are judged, written and saved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Chunk = TypeVar("Chunk")

ROOM = 2
"""Chunks that may wait to be judged, the one in hand among them. Then generation waits: memory stays bounded."""


class Judging(Generic[Chunk]):
    """Gives chunks to `judge` one by one, in the order put, in one thread that ends with the `with` block.

    What `judge` raises comes out of the next call here, and nothing is judged after it. What was put is judged before
    the block is left, whatever ends it: neither an engine's fault nor Ctrl-C loses what was generated. A second Ctrl-C
    waits for the chunk in hand alone.
    """

    def __init__(self, judge: Callable[[Chunk], None], room: int = ROOM) -> None:
        self._judge = judge
        self._room = room
        self._thread = ThreadPoolExecutor(1, "judging")
        self._waiting: deque[Future[None]] = deque()
        self._over = False

    def put(self, chunk: Chunk) -> None:
        """Have it judged after those before it. Waits while there is no room."""
        self.check()
        while len(self._waiting) >= self._room:
            self._next()
        self._waiting.append(self._thread.submit(self._unless_over, chunk))

    def settle(self) -> None:
        """Wait until all are judged."""
        while self._waiting:
            self._next()

    def check(self) -> None:
        """Raise what judging raised so far; waits for nothing."""
        while self._waiting and self._waiting[0].done():
            self._next()

    def _next(self) -> None:
        self._waiting.popleft().result()

    def _unless_over(self, chunk: Chunk) -> None:
        if self._over:
            return
        try:
            self._judge(chunk)
        except BaseException:
            self._over = True  # here, not where it is heard of: the chunk behind it is begun at once
            raise

    def __enter__(self) -> Judging[Chunk]:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.settle()
        finally:
            self._over = True
            self._thread.shutdown()
