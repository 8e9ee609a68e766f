"""A server of this package on a real port of loopback, in a thread of the test's own process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from selfalign.chat.server.app import create_app
from selfalign.chat.server.listening import impatient_protocol, open_socket
from selfalign.chat.server.service import Service
from selfalign.chat.server.settings import Settings

PATIENCE = 30.0
"""Seconds that a thing may take which takes none on a machine that is not busy."""


def until(holds: Callable[[], Any], seconds: float = PATIENCE) -> bool:
    """Whether it came to hold."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(holds())


class Listening:
    """The server, and what a test asks it by."""

    def __init__(self, service: Service, settings: Settings | None = None, seconds: float = 10.0) -> None:
        """`seconds` may a head take to come, and a full connection go unread."""
        self.service = service
        self.socket = open_socket("127.0.0.1", 0)
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        app = create_app(service, settings)
        protocol = impatient_protocol(head_seconds=seconds, unread_seconds=seconds)
        self.server = uvicorn.Server(uvicorn.Config(app, http=protocol, ws="none", log_config=None))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def until_idle(self) -> bool:
        """Whether all requests came to an end."""
        return until(lambda: not self.service.scheduler.users)

    def is_ready(self) -> bool:
        """What /readyz says."""
        return httpx.get(f"{self.url}/readyz", timeout=PATIENCE).status_code == 200

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def asking(self, body: dict[str, Any]) -> bytes:
        """A whole request for a chat answer, as it goes over the wire."""
        content = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return head + b"Content-Length: %d\r\n\r\n" % len(content) + content


@contextmanager
def listening(service: Service, settings: Settings | None = None, seconds: float = 10.0) -> Iterator[Listening]:
    """A server that answers, and stops when the block ends."""
    server = Listening(service, settings, seconds)
    server.thread.start()
    try:
        assert until(server.is_ready)
        yield server
    finally:
        server.server.should_exit = True
        server.thread.join(PATIENCE)
