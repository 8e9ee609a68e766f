"""An application that is made beside a server which listens already: Gradio takes seconds to import."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from selfalign.chat.server.listening import take_leave

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)


class Late:
    """What `make` gives, in a thread, after the server's start; who asks before waits.

    `make` gives an application of Starlette's kind, whose lifespan is run too. Where it fails, the log says so, and
    every request here ends with its error; the server goes on.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: asyncio.Future[Any] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around the server's life."""
        self._made = asyncio.get_running_loop().create_future()
        closing = asyncio.Event()
        task = asyncio.create_task(self._live(self._made, closing))
        try:
            yield
        finally:
            closing.set()
            await task

    async def _live(self, made: asyncio.Future[Any], closing: asyncio.Event) -> None:
        try:
            app = await asyncio.to_thread(self._make)
            async with app.router.lifespan_context(app):
                made.set_result(app)
                await closing.wait()
        except Exception as fault:
            logger.error("there is no page", exc_info=fault)
            if not made.done():
                made.set_exception(fault)
                made.exception()  # seen: who never asks for the page shall not be told again

    def leave(self) -> None:
        """The server is about to stop."""
        if self._made and self._made.done() and not self._made.exception():
            take_leave(self._made.result())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on as soon as there is somebody to take it."""
        assert self._made is not None, "the server's lifespan has not begun"
        app = await asyncio.shield(self._made)
        await app(scope, receive, send)
