"""The page comes after the server: who asks for it early waits, and the API does not."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from selfalign.chat.page.late import Late

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
