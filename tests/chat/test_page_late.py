"""The page comes after the server: who asks for it early waits, and the API does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("fastapi")

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from selfalign.chat.page.late import Late
from selfalign.chat.server.listening import open_socket, server_of
from tests.support.listening import until

told: list[str] = []


def page() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        told.append("begun")
        yield
        told.append("ended")

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/", lambda: "the page")
    return app


def server(late: Late) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with late.running():
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/readyz", lambda: "ready")
    app.mount("/", late)
    return app


def test_the_api_answers_while_the_page_is_being_made_and_the_page_when_it_is() -> None:
    told.clear()
    may_be_made = threading.Event()

    def slowly() -> FastAPI:
        assert may_be_made.wait(30)
        return page()

    with TestClient(server(Late(slowly))) as client:
        assert client.get("/readyz").json() == "ready"
        assert told == []
        may_be_made.set()
        assert client.get("/").json() == "the page"
        assert told == ["begun"]
    assert told == ["begun", "ended"]


def test_without_its_page_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> FastAPI:
        raise ImportError("no such theme")

    with TestClient(server(Late(broken)), raise_server_exceptions=False) as client:
        assert client.get("/").status_code == 500
        assert client.get("/readyz").json() == "ready"
    assert "there is no page" in caplog.text


def page_that_stays_open() -> FastAPI:
    """Its stream ends when it is told that the server stops, as Gradio's heartbeats do."""
    app, stops = FastAPI(), asyncio.Event()

    async def heartbeat() -> AsyncIterator[str]:
        yield "alive\n"
        await stops.wait()

    app.add_api_route("/heartbeat", lambda: StreamingResponse(heartbeat()))
    app.state.leave = stops.set
    return app


def test_a_server_that_stops_does_not_wait_for_open_pages() -> None:
    late = Late(page_that_stays_open)
    app = server(late)
    app.state.leave = late.leave
    listening = open_socket("127.0.0.1", 0)
    running = server_of(app)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    with httpx.stream("GET", f"http://127.0.0.1:{listening.getsockname()[1]}/heartbeat", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "alive"
        running.should_exit = True
        assert list(lines) == []
    assert until(lambda: not thread.is_alive())


def test_a_server_may_stop_before_its_page_is_there() -> None:
    Late(page).leave()
    late = Late(page)
    with TestClient(server(late)) as client:
        assert client.get("/").json() == "the page"
        late.leave()
