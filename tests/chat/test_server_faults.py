"""The embedded engine fails in the middle of a batch, under a real server: who suffers, who does not, what is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from selfalign.chat.server import scheduler, service
from selfalign.chat.server.hub import models_on
from selfalign.chat.server.service import Service
from selfalign.engines.embedded import decoder
from selfalign.engines.embedded.batcher import EmbeddedBatcher
from selfalign.engines.embedded.loading import Source
from selfalign.recipe import EngineOptions
from tests.support.listening import Listening, listening, until
from tests.support.runs import small_constitution
from tests.support.tiny import tiny_model_dir

PRINCIPLED = 200
"""Tokens that only the prefix of principles has; the style is one too, and shorter."""


class Fault:
    """Stands before the model: once someone joins two who are being written, only passes under the principles work."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward
        self.is_armed, self.is_mended = False, threading.Event()

    def __call__(self, model: Any, ids: Any, step: Any, kept: Any) -> Any:
        joins = step.padded is not None and step.decoding == 2
        if step.prefix.length < PRINCIPLED:
            self.is_armed = self.is_armed or joins
        if self.is_armed and not self.is_mended.is_set() and step.prefix.length < PRINCIPLED:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        time.sleep(0.004)
        return self.forward(model, ids, step, kept)


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    fault = Fault(decoder.forward)
    monkeypatch.setattr(decoder, "forward", fault)
    monkeypatch.setattr(scheduler, "PROBE_EVERY", 0.05)
    monkeypatch.setattr(service, "THOUGHT_TOKENS", 30)
    return fault


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Listening]:
    batcher = EmbeddedBatcher(Source("tiny", str(tiny_model_dir(tmp_path))), EngineOptions(dtype="float32"))
    with listening(Service(batcher, models_on(batcher, "tiny", small_constitution(), "standard"))) as server:
        yield server


def body(model: str, max_tokens: int, stream: bool = True) -> dict[str, Any]:
    said = [{"role": "user", "content": "Name three colours."}]
    return {"model": model, "messages": said, "max_tokens": max_tokens, "temperature": 0, "stream": stream}


class Reading:
    """A stream that is read by a thread of its own."""

    def __init__(self, server: Listening, users: ThreadPoolExecutor, model: str, max_tokens: int) -> None:
        self.lines: list[str] = []
        self.end: Future[None] = users.submit(self._read, f"{server.url}/v1/chat/completions", body(model, max_tokens))

    def _read(self, url: str, asked: dict[str, Any]) -> None:
        with httpx.stream("POST", url, json=asked, timeout=60) as answer:
            for line in filter(None, answer.iter_lines()):
                self.lines.append(line)

    @property
    def last(self) -> str:
        self.end.result(60)
        return self.lines[-1]


def test_a_pass_that_fails_ends_its_own_batch_and_the_server_comes_back(server: Listening, fault: Fault) -> None:
    url = f"{server.url}/v1/chat/completions"
    with ThreadPoolExecutor(4) as users:
        batch = [Reading(server, users, "tiny", 400) for _ in range(2)]
        other = Reading(server, users, "tiny+principles", 80)
        assert until(lambda: all(len(one.lines) > 2 for one in (*batch, other)))
        joining = users.submit(httpx.post, url, json=body("tiny", 400, stream=False), timeout=60)
        told = joining.result(60)
        assert (told.status_code, told.json()["error"]["code"]) == (500, "engine_failed")
        for one in batch:
            assert '"code": "engine_failed"' in one.last
        assert not server.is_ready()
        refused = httpx.post(url, json=body("tiny", 4), timeout=60)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert not other.end.done()
        fault.is_mended.set()
        assert until(server.is_ready)
        assert other.last == "data: [DONE]"
    answer = httpx.post(url, json=body("tiny", 4, stream=False), timeout=60)
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert server.until_idle()


def test_an_engine_that_does_not_come_back_keeps_nobody_waiting(
    server: Listening, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE", 0.2)
    with ThreadPoolExecutor(3) as users:
        streams = [Reading(server, users, name, 400) for name in ("tiny+principles", "tiny", "tiny")]
        assert until(lambda: all(len(one.lines) > 2 for one in streams))
        fault.is_armed = True
        for one in streams:
            assert '"code": "engine_failed"' in one.last
        assert not server.is_ready()
