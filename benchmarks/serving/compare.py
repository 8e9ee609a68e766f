"""Crowds of users at our server, and at 16 users the offline engine and the peers beside it, in turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines.process import MeasurementFailed
from benchmarks.engines.provenance import shown
from benchmarks.serving import contenders
from benchmarks.serving.client import crowd
from benchmarks.serving.figures import level, middle, ratios
from benchmarks.serving.messages import TEMPERATURE, TOP_P, Question, questions
from benchmarks.serving.offline import Offline
from benchmarks.serving.servers import Running, Server, running

BESIDE = 16
"""Users at which the offline engine and the peers are measured too."""
OFFLINE = "embedded engine, offline"
OURS = "selfalign"
FEWEST_REQUESTS = 8
"""Below this many users each asks several times, so that a percentile has something to stand on."""
ROUNDS = 2
"""Questions of a user, one after the other: most joins happen while others are written for."""
WARM_UP_TOKENS = 8
WARM_UP_OPENING = "One thing before we begin. "
"""So that no measured prompt is one that a server has read already."""


@dataclass(frozen=True)
class Setting:
    """What is compared."""

    model: str = "smollm2-135m"
    users: Sequence[int] = (1, 4, 16, 64)
    peers: Sequence[str] = tuple(contenders.PEERS.values())
    new_tokens: int = 64
    repeats: int = 3
    gguf_type: str = contenders.GGUF_TYPE

    def rounds(self, users: int) -> int:
        """Questions a user."""
        return max(ROUNDS, -(-FEWEST_REQUESTS // users))


class Measurement(NamedTuple):
    """What is measured again and again: a name and a number of users, and what gives the figures of a repeat."""

    name: str
    users: int
    run: Callable[[int], dict[str, Any]]


def compare(setting: Setting) -> dict[str, Any]:
    """All repeats and their middle. What cannot run has a `skipped` line instead of figures."""
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        contenders.make_model_folder(setting.model, folder)
        servers, skipped = started(setting, folder, stack)
        offline = stack.enter_context(kept(Offline(setting.model, BESIDE, contenders.STYLE)))
        found = repeated(measurements(setting, servers, offline), setting.repeats, skipped)
    rows = [summary(name, users, repeats) for (name, users), repeats in found.items()]
    return {
        "workload": describe(setting),
        "load_average": round(load_average, 2),
        "servers": {one.server.name: provenance(one.server) for one in servers} | skipped,
        "rows": rows,
        "ratios_at_16": against_ours(found),
    }


def started(setting: Setting, folder: Path, stack: contextlib.ExitStack) -> tuple[list[Running], dict[str, Any]]:
    """The servers, warmed up and held, and why others are left out."""
    make: dict[str, Callable[[], Server]] = {
        OURS: lambda: contenders.ours(setting.model),
        contenders.PEERS["transformers"]: lambda: contenders.transformers(folder, setting.new_tokens),
        contenders.PEERS["llama.cpp"]: lambda: contenders.llama_cpp(folder, BESIDE, setting.gguf_type),
    }
    servers: list[Running] = []
    skipped: dict[str, Any] = {}
    for name in (OURS, *setting.peers):
        if reason := contenders.missing(name):
            skipped[name] = {"skipped": reason}
            continue
        try:
            servers.append(stack.enter_context(running(make[name](), folder)))
            warm_up(servers[-1], setting)
        except MeasurementFailed as fault:
            if name == OURS:
                raise
            skipped[name] = {"skipped": f"failed: {fault}"}
            say(name, skipped[name]["skipped"])
    return servers, skipped


def warm_up(server: Running, setting: Setting) -> None:
    """Short answers at the full crowd, on which a peer may grow what it needs. Raises MeasurementFailed."""
    found = ask(server, warm_up_questions(), WARM_UP_TOKENS)
    server.pause()
    if found["errors"] and server.server.name != OURS:
        raise MeasurementFailed(f"{found['errors']} of {found['requests']} requests failed: {found['faults'][0]}")


def warm_up_questions() -> list[list[Question]]:
    """One a user."""
    return [[Question(WARM_UP_OPENING + one.text, one.seed) for one in own] for own in questions(BESIDE, 1)]


@contextlib.contextmanager
def kept(held: Offline) -> Iterator[Offline]:
    """Warmed up and held, stopped at the end."""
    try:
        held.measure(flat(warm_up_questions()), WARM_UP_TOKENS)
        held.pause()
        yield held
    finally:
        held.stop()


def measurements(setting: Setting, servers: Sequence[Running], offline: Offline) -> list[Measurement]:
    """In the order of a repeat: what is compared stands side by side."""

    def crowd_of(server: Running, users: int) -> Measurement:
        rounds = setting.rounds(users)

        def run(repeat: int) -> dict[str, Any]:
            with server.awake():
                return ask(server, questions(users, rounds, repeat * users * rounds), setting.new_tokens)

        return Measurement(server.server.name, users, run)

    def offline_run(repeat: int) -> dict[str, Any]:
        rounds = setting.rounds(BESIDE)
        with offline.awake():
            return offline.measure(flat(questions(BESIDE, rounds, repeat * BESIDE * rounds)), setting.new_tokens)

    own, *peers = servers
    beside = [Measurement(OFFLINE, BESIDE, offline_run), *(crowd_of(peer, BESIDE) for peer in peers)]
    order: list[Measurement] = []
    for users in setting.users:
        order += [crowd_of(own, users), *(beside if users == BESIDE else [])]
    return order


def repeated(
    order: Sequence[Measurement], repeats: int, skipped: dict[str, Any]
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Every measurement `repeats` times, all of them in turn; what breaks down is noted and left out from then on."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {(one.name, one.users): [] for one in order}
    for repeat in range(repeats):
        for name, users, run in order:
            if name in skipped:
                continue
            try:
                found[name, users].append(run(repeat))
                say(f"{name}, {users} users, repeat {repeat + 1}", found[name, users][-1].get("tokens_per_second"))
            except MeasurementFailed as fault:
                skipped[name] = {"skipped": f"failed: {fault}"}
    return {key: rows for key, rows in found.items() if rows}


def ask(server: Running, asked: Sequence[Sequence[Question]], new_tokens: int) -> dict[str, Any]:
    """The figures of a crowd, with the processor seconds that the client itself took."""
    made = server.server
    bodies = [[one.body(made.model, new_tokens, **made.body) for one in own] for own in asked]
    busy = resource.getrusage(resource.RUSAGE_SELF)
    answers = asyncio.run(crowd(made.url, bodies))
    after = resource.getrusage(resource.RUSAGE_SELF)
    client = after.ru_utime + after.ru_stime - busy.ru_utime - busy.ru_stime
    return level(len(asked), answers) | {"client_processor_seconds": round(client, 2)}


def flat(asked: Sequence[Sequence[Question]]) -> list[Question]:
    """Of all users."""
    return [one for own in asked for one in own]


def summary(name: str, users: int, repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row: the repeat in the middle, and the rates of all."""
    rates = [one.get("tokens_per_second") for one in repeats]
    return {"name": name, **middle(repeats), "users": users, "rates": rates, "repeats": list(repeats)}


def against_ours(found: dict[tuple[str, int], list[dict[str, Any]]]) -> dict[str, Any]:
    """Our rate at 16 users over each other's, repeat by repeat, and the median."""
    own = found.get((OURS, BESIDE), [])
    pairs = {name: ratios(own, rows) for (name, users), rows in found.items() if users == BESIDE and name != OURS}
    return {name: {"median": statistics.median(each), "repeats": each} for name, each in pairs.items() if each}


def provenance(server: Server) -> dict[str, Any]:
    """Flags and versions."""
    return {"settings": dict(server.settings), "versions": dict(server.versions)}


def describe(setting: Setting) -> dict[str, Any]:
    """What every server was asked."""
    return {
        "model": shown(setting.model),
        "new_tokens": setting.new_tokens,
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "style": contenders.STYLE,
        "questions_a_user": {str(users): setting.rounds(users) for users in setting.users},
        "repeats": setting.repeats,
    }


def say(name: str, outcome: object) -> None:
    """Progress, on standard error."""
    print(f"{name}: {outcome}", file=sys.stderr, flush=True)
