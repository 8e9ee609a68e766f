"""`selfalign serve` as a process of its own: the official client, a stop in mid-stream, misbehaving connections."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from selfalign.chat.remote import Remote
from selfalign.engines.base import Sampling
from tests.constitution.small import SMALL
from tests.support.listening import until
from tests.support.servers import free_port
from tests.support.tiny import tiny_model, tiny_model_dir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STARTING, ANSWERING = 240.0, 120.0
"""Seconds that a process may take to be ready, and an answer to be whole, where others use the processors too."""

HELLO: list[Any] = [{"role": "user", "content": "Name three colours."}]


class Served:
    """A server of a run that was made up: a random base and two random adapters."""

    def __init__(self, run: Path, log: Path, *flags: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        arguments = [str(run), "--port", str(self.port), "--dtype", "float32", "--queue", "100", *flags]
        command = [sys.executable, "-m", "selfalign", "serve", *arguments]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stderr=errors)

    def wait(self) -> None:
        """Until it says that it serves, and is ready. Connections are taken before that, and answered late."""
        if not until(lambda: "Ctrl-C stops" in self.log.read_text() or self.process.poll() is not None, STARTING):
            pytest.fail(f"the server did not get ready:\n{self.log.read_text()[-3000:]}")
        if self.process.poll() is not None:
            pytest.fail(f"the server ended:\n{self.log.read_text()[-3000:]}")
        assert httpx.get(f"{self.url}/readyz", timeout=STARTING).status_code == 200

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def client(self) -> Any:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=ANSWERING)

    def in_work(self) -> float:
        figures = httpx.get(f"{self.url}/metrics", timeout=ANSWERING).text
        return next(float(line.split()[1]) for line in figures.splitlines() if line.startswith("selfalign_requests_in"))


def make_run(path: Path) -> Path:
    """A run directory with models, and nothing else that serving needs."""
    import torch
    from peft import LoraConfig, get_peft_model

    base = tiny_model_dir(path / "base")
    for seed, name in enumerate(("engraved", "final")):
        model = tiny_model()
        model.config._name_or_path = str(base)
        model.name_or_path = str(base)
        torch.manual_seed(seed)
        settings = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(model, settings).save_pretrained(path / "models" / name)
        file = path / "models" / name / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base)}))
    (path / "run.json").write_text(json.dumps({"base_model": str(base)}))
    (path / "constitution.yaml").write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    server = Served(make_run(folder / "run"), folder / "serve.log", "--no-page")
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def test_the_official_client_streams_and_asks_every_model(served: Served) -> None:
    client = served.client()
    names = [model.id for model in client.models.list()]
    assert names == ["base", "base+principles", "engraved", "final"]
    texts = {}
    for name in ("base", "engraved", "final"):
        asked = {"model": name, "messages": HELLO, "max_tokens": 20, "seed": 3}
        whole = client.chat.completions.create(**asked)
        pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked, stream=True)]
        texts[name] = whole.choices[0].message.content
        assert "".join(pieces) == texts[name]
    assert len(set(texts.values())) == 3
    raw = client.completions.create(model="final", prompt="Once", max_tokens=4, logprobs=2, temperature=0)
    assert len(raw.choices[0].logprobs.token_logprobs) == 4
    thoughts = []
    for seed in range(8):  # a random model may end a thought before its first word, but not every one
        said = client.chat.completions.create(model="base+principles", messages=HELLO, max_tokens=4, seed=seed)
        thoughts.append(getattr(said.choices[0].message, "reasoning_content", ""))
    assert max(map(len, thoughts)) > 4
    with pytest.raises(openai.BadRequestError, match="the context holds 1024"):
        client.chat.completions.create(model="final", messages=[{"role": "user", "content": "x" * 2000}])
    assert Remote(served.url).models() == ["final", "base", "base+principles", "engraved"]  # to begin with the last
    streamed = Remote(served.url).stream("final", HELLO, Sampling(max_tokens=20, temperature=1.0), seed=3)
    assert "".join(said.text for said in streamed if said.part == "answer") == texts["final"]


def test_many_users_at_once_get_what_they_get_alone(served: Served) -> None:
    client = served.client()

    def ask(number: int) -> str:
        name = ("base", "engraved", "final")[number % 3]
        answer = client.chat.completions.create(model=name, messages=HELLO, max_tokens=24, seed=number)
        text: str = answer.choices[0].message.content
        return text

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as users:
        assert list(users.map(ask, range(12))) == alone


def test_a_client_that_goes_away_frees_its_slot(served: Served) -> None:
    body = {"model": "base", "messages": HELLO, "max_tokens": 900, "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=ANSWERING) as answer:
        lines = answer.iter_lines()  # whose end would close the connection
        next(lines)
        assert served.in_work() == 1
    assert until(lambda: served.in_work() == 0, 5)


def test_slow_and_silent_connections_are_closed_and_everyone_else_is_served(served: Served) -> None:
    drips = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(50)]
    body = json.dumps({"model": "base", "messages": HELLO, "max_tokens": 50, "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    silent = []
    for one in drips:
        one.sendall(b"POST / HTTP/1.1\r\nX: ")
    for _ in range(200):
        one = socket.create_connection(("127.0.0.1", served.port))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        silent.append(one)
    large = httpx.post(f"{served.url}/v1/completions", content=b"x" * (10 * 2**20), timeout=ANSWERING)
    assert (large.status_code, large.json()["error"]["type"]) == (413, "invalid_request_error")
    assert httpx.get(f"{served.url}/healthz", timeout=ANSWERING).status_code == 200
    assert until(lambda: served.in_work() < 100, ANSWERING)
    answer = served.client().chat.completions.create(model="final", messages=HELLO, max_tokens=4)
    assert answer.usage.completion_tokens > 0
    assert until(lambda: served.in_work() == 0, ANSWERING)
    drips[0].settimeout(60)
    with contextlib.suppress(ConnectionResetError):
        assert drips[0].recv(100) == b""
    for one in [*drips, *silent]:
        one.close()


def test_a_stop_finishes_streams_before_the_process_ends(tmp_path: Path) -> None:
    server = Served(make_run(tmp_path / "run"), tmp_path / "serve.log", "--no-page")
    try:
        server.wait()
        stream = server.client().chat.completions.create(
            model="base", messages=HELLO, max_tokens=300, seed=1, stream=True, stream_options={"include_usage": True}
        )
        next(iter(stream))
        server.process.send_signal(signal.SIGTERM)
        chunks = list(stream)
        assert chunks[-1].usage.completion_tokens > 0
        assert server.process.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    finally:
        server.stop()


def test_a_page_that_is_open_in_a_browser_does_not_hold_a_stop_up(tmp_path: Path) -> None:
    server = Served(make_run(tmp_path / "run"), tmp_path / "serve.log")
    try:
        server.wait()
        assert httpx.get(server.url, timeout=STARTING).status_code == 200
        with httpx.stream("GET", f"{server.url}/gradio_api/heartbeat/abc", timeout=ANSWERING) as heartbeat:
            lines = heartbeat.iter_lines()  # whose end would close the connection
            assert "ALIVE" in next(lines)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(50) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)  # 60 s where it waits
        assert "Traceback" not in server.log.read_text()
    finally:
        server.stop()
