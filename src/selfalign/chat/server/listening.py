"""Connections that do not keep up: heads that drip in, and readers that never read. Uvicorn waits for both forever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

HEAD_SECONDS = 10.0
"""Seconds that the head of a request may take to arrive."""

UNREAD_SECONDS = 30.0
"""Seconds that a connection may go unread once the kernel takes no more for it."""

DRAIN_SECONDS = 60
"""Seconds that streams have to finish after the server was asked to stop."""


def impatient_protocol(head_seconds: float = HEAD_SECONDS, unread_seconds: float = UNREAD_SECONDS) -> Any:
    """Uvicorn's HTTP protocol, which closes connections that are too slow."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Two timers a connection."""

        head_timer: asyncio.TimerHandle | None = None
        unread_timer: asyncio.TimerHandle | None = None

        @property
        def is_answering(self) -> bool:
            """Whether a request has come, and its answer is not out yet."""
            return self.cycle is not None and not self.cycle.response_complete

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            # Full as soon as anything waits: less than 64 KiB would else wait for its reader with no timer, for ever.
            transport.set_write_buffer_limits(0)
            self.expect_head()

        def data_received(self, data: bytes) -> None:
            if not self.is_answering:
                self.expect_head()
            super().data_received(data)
            if self.is_answering:
                stop(self.head_timer)
                self.head_timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            stop(self.head_timer)
            stop(self.unread_timer)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.unread_timer = self.loop.call_later(unread_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            stop(self.unread_timer)
            super().resume_writing()

        def expect_head(self) -> None:
            """Start the timer, unless it runs."""
            if self.head_timer is None:
                self.head_timer = self.loop.call_later(head_seconds, self.close_unless_answering)

        def close_unless_answering(self) -> None:
            """The head did not come in time."""
            self.head_timer = None
            if not self.is_answering:
                self.transport.abort()

    return Impatient


def stop(timer: asyncio.TimerHandle | None) -> None:
    """Stop a timer, if there is one."""
    if timer is not None:
        timer.cancel()


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket, before the model is loaded. UserError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as fault:
        raise UserError(
            f"cannot listen on {host}:{port}: {fault.strerror or fault}", "name another --port", 1
        ) from fault


def listen(app: FastAPI, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; streams that run then are finished."""
    raise_file_limit()
    server_of(app).run(sockets=[listening])


def server_of(app: FastAPI) -> uvicorn.Server:
    """Uvicorn's server, which lets the application take its leave before it waits for the streams to end."""
    import uvicorn

    class Leaving(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            take_leave(app)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        http=impatient_protocol(),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return Leaving(config)


def take_leave(app: FastAPI) -> None:
    """Call `app.state.leave`, where there is one: it ends those streams that nobody else would."""
    leave = getattr(app.state, "leave", None)
    if leave:
        leave()


def raise_file_limit() -> None:
    """As many connections as the system lets this process have."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
