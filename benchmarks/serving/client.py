"""A crowd of users that stream answers by HTTP, and when each piece came.

The bytes are kept with the time of their arrival and read after the last user is done: the client shares the cores
with the server, and what it does meanwhile is taken off the figures.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import h11

TIMEOUT = 600.0
"""Seconds that an answer may take."""


class Arrival(NamedTuple):
    """Bytes, and when they came."""

    time: float
    data: bytes


class Raw(NamedTuple):
    """All bytes of an answer, head and all, and what broke it off."""

    began: float
    arrivals: list[Arrival]
    fault: str = ""


class Answer(NamedTuple):
    """An answer read: the times of its pieces of text, its tokens by the server's own count, its fault."""

    began: float
    ended: float
    pieces: list[float]
    prompt_tokens: int
    tokens: int
    text: str
    error: str = ""


async def crowd(url: str, bodies: Sequence[Sequence[dict[str, Any]]]) -> list[Answer]:
    """The answers to all users, who begin at once; each asks its next as soon as the one before is answered."""
    raws = await asyncio.gather(*(user(url, [request(url, body) for body in own]) for own in bodies))
    return [read(raw) for own in raws for raw in own]


async def user(url: str, requests: Sequence[bytes]) -> list[Raw]:
    """One after the other."""
    return [await ask(url, data) for data in requests]


async def ask(url: str, data: bytes) -> Raw:
    """One request on a connection of its own. Whatever goes wrong is the answer's fault, never raised."""
    began, place = time.perf_counter(), urlsplit(url)
    connection = Connection(data)
    try:
        async with asyncio.timeout(TIMEOUT):
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: connection, place.hostname, place.port)
            try:
                await connection.closed
            finally:
                transport.abort()
    except (OSError, TimeoutError) as fault:
        return Raw(began, connection.arrivals, f"{type(fault).__name__}: {fault}")
    return Raw(began, connection.arrivals)


class Connection(asyncio.Protocol):
    """Sends a request and keeps what comes until the server closes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.arrivals: list[Arrival] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.data)

    def data_received(self, data: bytes) -> None:
        """Nothing is read yet."""
        self.arrivals.append(Arrival(time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        """The answer is whole, or broken."""
        if self.closed.done():
            return
        if exc is None:
            self.closed.set_result(None)
        else:
            self.closed.set_exception(exc)


def request(url: str, body: dict[str, Any]) -> bytes:
    """The bytes of a POST after whose answer the server closes."""
    place, data = urlsplit(url), json.dumps(body).encode()
    headers = [
        ("Host", place.netloc),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(data))),
        ("Connection", "close"),
    ]
    connection = h11.Connection(h11.CLIENT)
    head = connection.send(h11.Request(method="POST", target=f"{place.path}/chat/completions", headers=headers))
    return bytes(head or b"") + data


def read(raw: Raw) -> Answer:
    """What an answer says. One that is broken off or without a token count is a fault; an empty one is none."""
    times, texts, usage, error = [], [], {}, raw.fault
    try:
        status, body = unframed(raw.arrivals) if raw.arrivals else (0, [])
        if status != 200:
            said = b"".join(part.data for part in body).decode(errors="replace")
            error = error or f"status {status}: {said[:200]}"
        for moment, event in events(body) if status == 200 else ():
            error = error or str(event.get("error") or "")
            usage = event.get("usage") or usage
            if text := "".join(choice["delta"].get("content") or "" for choice in event.get("choices") or ()):
                times.append(moment)
                texts.append(text)
    except (h11.RemoteProtocolError, ValueError) as fault:
        error = error or f"{type(fault).__name__}: {fault}"
    tokens = int(usage.get("completion_tokens", 0))
    if not error and not tokens:
        error = "no token count"
    ended = raw.arrivals[-1].time if raw.arrivals else raw.began
    return Answer(raw.began, ended, times, int(usage.get("prompt_tokens", 0)), tokens, "".join(texts), error)


def unframed(arrivals: Iterable[Arrival]) -> tuple[int, list[Arrival]]:
    """(status, body without its chunks' sizes). ValueError, or h11's own error, where the answer is not whole."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "server"), ("Connection", "close")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, []
    for moment, data in arrivals:
        connection.receive_data(data)
        while (event := connection.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.Response():
                    status = event.status_code
                case h11.Data():
                    body.append(Arrival(moment, bytes(event.data)))
                case h11.EndOfMessage():
                    return status, body
    if status == 200:
        raise ValueError("the answer was broken off")
    return status, body


def events(body: Iterable[Arrival]) -> Iterator[tuple[float, dict[str, Any]]]:
    """(time of its last byte, content) of each server-sent event but the closing mark."""
    held = b""
    for moment, data in body:
        *whole, held = (held + data.replace(b"\r\n", b"\n")).split(b"\n\n")
        for event in whole:
            payload = event.removeprefix(b"data:").strip()
            if event.startswith(b"data:") and payload != b"[DONE]":
                yield moment, json.loads(payload)
