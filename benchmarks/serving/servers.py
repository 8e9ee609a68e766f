"""The servers measured, each a process: started, waited for, paused while another is measured, stopped.

All of a comparison are loaded at once and take turns in short measurements, since the machine's own speed moves by a
quarter within minutes. Those whose turn it is not are held by SIGSTOP: none of their threads can spin meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engines.peers import ROOT
from benchmarks.engines.process import TAIL, MeasurementFailed, environment
from benchmarks.engines.provenance import without_paths
from benchmarks.engines.run_peer import family, status_field

READY_SECONDS = 300.0
"""Seconds that a server may take to load the model."""
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
SPIN = {"GOMP_SPINCOUNT": "20000"}
"""For every Python process here, as `selfalign` itself sets it: other processes want the cores too."""


@dataclass(frozen=True)
class Server:
    """How a server is started, and what its requests carry beside what all have.

    `health` answers 200 once it would answer a request; `settings` are its flags, to be told with its figures.
    """

    name: str
    command: Sequence[str]
    port: int
    model: str
    health: str = "/health"
    body: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the OpenAI API is."""
        return f"http://127.0.0.1:{self.port}/v1"


class Held:
    """A process that runs only while it is measured."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self.process = process

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run meanwhile."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.pause()

    def pause(self) -> None:
        """Hold it."""
        self._signal(signal.SIGSTOP)

    def stop(self) -> None:
        """End it."""
        self._signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)


class Running(Held):
    """A server's process. `log` takes all that it prints."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server = server
        self.log = log
        self.began = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(server.command), cwd=ROOT, env=environment(SPIN), stdout=output, stderr=subprocess.STDOUT
            )
        super().__init__(process)

    def wait(self) -> float:
        """Seconds from the start until it was ready. Raises MeasurementFailed with the end of its log."""
        while time.perf_counter() - self.began < READY_SECONDS:
            if self.process.poll() is not None:
                break
            if answers(f"http://127.0.0.1:{self.server.port}{self.server.health}"):
                return time.perf_counter() - self.began
            time.sleep(POLL_SECONDS)
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        raise MeasurementFailed(without_paths("\n".join([f"{self.server.name} did not get ready", *lines])))

    def resident_mib(self) -> float:
        """Memory of the process and all below it."""
        return sum(status_field(pid, "VmRSS") for pid in family(self.process.pid)) / 1024


@contextlib.contextmanager
def running(server: Server, folder: Path) -> Iterator[Running]:
    """A server that is ready, stopped at the end."""
    started = Running(server, folder / f"{server.name}.log")
    try:
        started.wait()
        yield started
    finally:
        started.stop()


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
