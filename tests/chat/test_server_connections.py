"""A real uvicorn on loopback, its answers scripted: who drips, leaves or never reads, and a stop in mid-stream."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from selfalign.chat.remote import Remote
from selfalign.chat.server.hub import scripted_service
from selfalign.chat.server.settings import Settings
from selfalign.chat.server.streams import EventStream
from selfalign.engines.base import Request, Sampling
from selfalign.errors import UserError
from tests.support.listening import Listening, listening, until
from tests.support.runs import small_constitution

HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "word " * 100}], "stream": True}


def echo(request: Request) -> str:
    """What was asked; far more than a connection holds unread where that is a flood, 40 kB at once where a burst."""
    if "burst" in request.prompt:
        return "x" * 40_000
    return ("x" * 100_000 + " ") * 300 if "flood" in request.prompt else request.prompt


@pytest.fixture
def server() -> Iterator[Listening]:
    """It gives a slow connection 0.3 s."""
    service = scripted_service(echo, small_constitution(), pause=0.01)
    with listening(service, Settings(body_seconds=0.3), seconds=0.3) as server:
        yield server


def test_a_head_that_drips_is_cut_off_and_a_client_that_leaves_frees_its_slot(server: Listening) -> None:
    with server.connect() as drip:
        drip.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        with contextlib.suppress(ConnectionResetError):
            assert drip.recv(100) == b""
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=HELLO, timeout=10) as answer:
        lines = answer.iter_lines()  # whose end would close the connection
        next(lines)
        assert server.service.scheduler.users
    assert server.until_idle()
    with server.connect() as leaving:
        leaving.sendall(server.asking(HELLO | {"stream": False}))
        assert until(lambda: server.service.scheduler.users)
    assert server.until_idle()


def test_a_crowd_that_never_reads_or_never_ends_is_closed_and_everyone_else_is_served(server: Listening) -> None:
    """200 connections: heads and bodies that drip, and readers that do not read."""
    crowd = [server.connect() for _ in range(200)]
    try:
        for number, one in enumerate(crowd):
            whole = server.asking(HELLO)
            one.sendall(whole[: (20, -20, len(whole))[number % 3]])
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=HELLO | {"stream": False}, timeout=60)
        assert answer.status_code == 200
        assert server.until_idle()
        for one in crowd[:2]:  # a head without its end is cut off, a body without its end answered so
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1000)[:12] in (b"", b"HTTP/1.1 408")
    finally:
        for one in crowd:
            one.close()


def test_a_stream_that_nobody_reads_is_cut_off(server: Listening) -> None:
    with server.connect() as silent:
        silent.sendall(server.asking(HELLO | {"messages": [{"role": "user", "content": "flood"}], "max_tokens": 4000}))
        assert until(lambda: server.service.scheduler.users)
        assert server.until_idle()
        assert until(lambda: len(server.server.server_state.connections) == 0)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while part := silent.recv(2**20):
                got = got[-100:] + part
        assert b"[DONE]" not in got


def test_a_short_answer_that_nobody_reads_is_cut_off_too(server: Listening) -> None:
    """What the kernel did not take is less than uvicorn's transport holds before it calls a connection full."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        silent.connect(("127.0.0.1", server.port))
        silent.sendall(server.asking(HELLO | {"messages": [{"role": "user", "content": "burst"}], "stream": False}))
        assert until(lambda: 'tokens_total{kind="completion"' in server.service.metrics.page().decode())
        assert until(lambda: len(server.server.server_state.connections) == 0)


def test_a_stop_lets_streams_finish(server: Listening) -> None:
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=HELLO, timeout=10) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.server.should_exit = True
        assert [line for line in lines if line][-1] == "data: [DONE]"
    server.thread.join(10)
    assert not server.thread.is_alive()
    assert not server.service.ready()


def test_the_terminals_client_streams_from_it_and_tells_faults_in_one_line(server: Listening) -> None:
    remote = Remote(server.url)
    assert remote.models() == ["scripted", "scripted+principles"]
    pieces = list(remote.stream("scripted", [{"role": "user", "content": "hello"}], Sampling(max_tokens=50)))
    assert len(pieces) > 1
    assert "".join(said.text for said in pieces).startswith("A talk with Ada")
    with pytest.raises(UserError, match="no model 'gpt-4'"):
        list(remote.stream("gpt-4", [{"role": "user", "content": "hello"}], Sampling()))
    with pytest.raises(UserError, match="Connection error"):
        Remote("http://127.0.0.1:9").models()


def test_an_answer_is_ended_with_a_connection_that_ends_before_anything_is_sent() -> None:
    ended = []

    async def events() -> AsyncIterator[Any]:
        try:
            yield "begun"
            yield "more"
        finally:
            ended.append(True)

    async def steps() -> None:
        answer: Any = events()
        await anext(answer)
        sending = asyncio.Event()

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await sending.wait()

        async def body() -> AsyncIterator[str]:
            async for text in answer:
                yield text

        stream: Any = EventStream
        await stream(body(), answer)({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        assert ended

    asyncio.run(asyncio.wait_for(steps(), 30))
