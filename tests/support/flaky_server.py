"""An OpenAI-compatible server that misbehaves over a real socket, in the way that a test says.

Its answers are a function of the prompt, its tokens are bytes, its context holds 1,024 of them.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTEXT_LENGTH = 1024
MODEL = "tiny"
Fault = Callable[["Handler"], None]


class FlakyServer(ThreadingHTTPServer):
    """Takes a fault off `faults` for each completion asked for, and answers as it should when none is left."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: deque[Fault] = deque()
        self.connections: list[socket.socket] = []
        self.asked: list[dict[str, Any]] = []
        self.answered: list[Any] = []
        self.cards: list[dict[str, Any]] = [{"id": MODEL, "owned_by": "vllm", "max_model_len": CONTEXT_LENGTH}]
        self.seconds = 0.0
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.loads_adapters = False
        self.keys: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def stop(self) -> None:
        """Go away, as a server does that is killed: connections that wait for a next request are closed too."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the game."""

    def forget(self) -> None:
        """Start counting anew."""
        self.asked.clear()
        self.answered.clear()
        self.most_in_flight = 0


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FlakyServer

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.send(200, {"object": "list", "data": self.server.cards})
        else:
            self.send(404, "<html><body><h1>Not Found</h1></body></html>", kind="text/html")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/load_lora_adapter" and self.server.loads_adapters:
            self.server.cards.append({"id": body["lora_name"], "root": body["lora_path"], "parent": MODEL})
            self.send(200, "Success: LoRA adapter added.", kind="text/plain")
        elif self.path == "/v1/completions":
            self.complete(body)
        else:
            self.send(404, {"detail": "Not Found"})

    def complete(self, body: dict[str, Any]) -> None:
        server = self.server
        with server.lock:
            server.asked.append(body)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            fault = server.faults.popleft() if server.faults else None
        try:
            time.sleep(server.seconds)
            if fault:
                fault(self)
            else:
                self.answer(body)
        finally:
            with server.lock:
                server.in_flight -= 1

    def answer(self, body: dict[str, Any]) -> None:
        if self.server.keys and self.headers.get("authorization", "").removeprefix("Bearer ") not in self.server.keys:
            self.send(401, {"error": {"message": f"Incorrect key: {self.headers.get('authorization')}"}})
            return
        tokens = list(body["prompt"].encode()) if isinstance(body["prompt"], str) else body["prompt"]
        if len(tokens) >= CONTEXT_LENGTH:
            words = f"This model's maximum context length is {CONTEXT_LENGTH} tokens, the prompt has {len(tokens)}."
            self.send(400, {"error": {"message": words, "code": 400}})
            return
        self.server.answered.append(body["prompt"])
        if body.get("stream"):
            self.stream(choice_of(body, tokens))
        else:
            choice = choice_of(body, tokens)
            usage = {"prompt_tokens": len(tokens), "completion_tokens": len(choice["text"].encode())}
            self.send(200, {"object": "text_completion", "choices": [choice], "usage": usage})

    def stream(self, choice: dict[str, Any], broken_after: int = -1) -> None:
        """The text in pieces of three characters; `broken_after` pieces the connection is cut."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        text = choice["text"]
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        for number, piece in enumerate([*pieces, ""]):
            if number == broken_after:
                self.cut()
                return
            event = {"choices": [choice | {"text": piece, "finish_reason": None if piece else choice["finish_reason"]}]}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def send(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def cut(self) -> None:
        """Close the connection as it stands."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def choice_of(body: dict[str, Any], tokens: list[int]) -> dict[str, Any]:
    """A text that depends on prompt, seed and temperature, cut at stop strings and length as vLLM does."""
    if body.get("echo"):
        values: list[float | None] = [None, *(-0.01 * (1 + token % 7) for token in tokens[1:]), -0.5]
        tops = [None if value is None else {"a": value, "b": value - 1 + 2 * (value < -0.06)} for value in values]
        return {"text": "", "finish_reason": "length", "logprobs": {"token_logprobs": values, "top_logprobs": tops}}
    text = (
        f"{sum(tokens) % 97} is what {(body['seed'] if body['temperature'] else 0) % 97} gives, more or less, and so on"
    )
    choice = {"text": text, "finish_reason": "stop", "stop_reason": None}
    for stop in body.get("stop", []):
        if stop in choice["text"]:
            choice |= {"text": choice["text"][: choice["text"].find(stop)], "stop_reason": stop}
    if len(choice["text"]) > body["max_tokens"]:
        choice |= {"text": choice["text"][: body["max_tokens"]], "finish_reason": "length", "stop_reason": None}
    return choice


def hangs(seconds: float) -> Fault:
    return lambda handler: time.sleep(seconds)


def answers(status: int, body: Any, kind: str = "application/json", **headers: str) -> Fault:
    return lambda handler: handler.send(status, body, kind, **headers)


def answers_late(seconds: float) -> Fault:
    def late(handler: Handler) -> None:
        body = handler.server.asked[-1]
        time.sleep(seconds)
        handler.answer(body)

    return late


def html(handler: Handler) -> None:
    handler.send(200, "<html><body>Welcome to the captive portal</body></html>", kind="text/html")


def drops(handler: Handler) -> None:
    """Half a body, then nothing."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"te')
    handler.cut()


def garbage(handler: Handler) -> None:
    """Bytes that are not even HTTP."""
    handler.wfile.write(b"\x00\xff\x13 what is this \r\n\r\n" * 20)
    handler.cut()


def stream_breaks_after(pieces: int) -> Fault:
    text = {"text": "one two three four five", "finish_reason": "stop"}
    return lambda handler: handler.stream(text, broken_after=pieces)


@contextmanager
def flaky_server() -> Iterator[FlakyServer]:
    """A server that runs until the block ends."""
    server = FlakyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
