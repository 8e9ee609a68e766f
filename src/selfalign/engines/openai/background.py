"""An event loop in a thread of its own: requests go on while the caller is busy with the answer before."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
Send = Callable[[T], None]


class Background:
    """Runs coroutines for a caller that knows nothing of them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="selfalign-requests", daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, waited for. An interrupt of the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, produce: Callable[[Send[T]], Coroutine[Any, Any, None]]) -> Generator[T, None, None]:
        """What `produce` sends, as it is sent; then its error is raised, if it ended in one. Closing cancels it."""
        sent: SimpleQueue[tuple[T] | None] = SimpleQueue()
        task = self.run(self._start(produce(lambda item: sent.put((item,))), lambda: sent.put(None)))
        try:
            while (item := sent.get()) is not None:
                yield item[0]
        finally:
            if not self.loop.is_closed():
                self.run(self._stop(task))
        if not task.cancelled():
            task.result()

    def cancel(self) -> None:
        """Cancel all that still runs."""
        self.run(self._stop_all())

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        if self.thread.is_alive():
            self.cancel()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    @staticmethod
    async def _start(work: Coroutine[Any, Any, None], at_end: Callable[[], None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: at_end())
        task.add_done_callback(_note_error)
        return task

    @staticmethod
    async def _stop(task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task

    @staticmethod
    async def _stop_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await Background._stop(task)


def _note_error(task: asyncio.Task[None]) -> None:
    """Look at the error of a task that nobody may come back for; asyncio would print it when the task is dropped."""
    if not task.cancelled():
        task.exception()


async def bounded(
    items: Iterable[Item], work: Callable[[Item], Awaitable[T]], at_once: int, send: Send[T], stop: Callable[[], None]
) -> None:
    """Send `work(item)` for every item as it finishes, `at_once` under way at most.

    After the first error nothing more is begun and `stop` is called; what is under way still finishes and is sent, and
    then the error is raised.
    """
    waiting = deque(items)
    errors: list[Exception] = []

    async def worker() -> None:
        while waiting:
            try:
                send(await work(waiting.popleft()))
            except Exception as error:
                errors.append(error)
                waiting.clear()
                stop()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(waiting))):
            group.create_task(worker())
    if errors:
        raise errors[0]
