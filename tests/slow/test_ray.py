"""The ray engine on a real cluster: three nodes on this machine, one of which is killed in the middle of the work."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.base import Completion, Engine, Request, Sampling
from selfalign.engines.ray.engine import MOST_DEATHS, RayEngine
from selfalign.engines.scripted import ScriptedEngine
from selfalign.errors import EngineFailed, UserError
from selfalign.pipeline.engines import open_engine
from selfalign.recipe import EngineOptions
from tests.engines.conformance import Conformance, by_key
from tests.support import scripts
from tests.support.runs import STORES, run, small_recipe
from tests.support.tiny import tiny_model_dir

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SECONDS = 0.03
"""What a slow request takes: long enough that a node dies in the middle of some hundred."""


class Paced(ScriptedEngine):
    """The scripted engine, its stream word by word and as slow as a model's."""

    def stream(self, request: Request) -> Iterator[str]:
        for place, word in enumerate("".join(super().stream(request)).split(" ")):
            yield f" {word}" if place else word
            time.sleep(SECONDS)


def words(request: Request) -> str:
    return f"The answer to number {request.seed} is {request.prompt} and more of it, at length."


def slow_words(request: Request) -> str:
    time.sleep(SECONDS)
    return words(request)


def deadly(request: Request) -> str:
    """Takes the worker's process with it, as a crash in native code would."""
    if "poison" in request.prompt:
        os._exit(1)
    return words(request)


def scripted(script: Callable[[Request], str]) -> Engine:
    return Paced(script, Conformance.context_length)


def without_model() -> Engine:
    raise UserError("there is no model in /models/none", "copy it there", exit_code=1)


class Failing(ScriptedEngine):
    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from super().generate(list(requests)[:2])
        raise EngineFailed("layer 3 gave NaN", "use float32")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and, by `address`, two more nodes, with one CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(scripts.SLEEP, str(SECONDS))  # the workers' environment is the nodes'
        made = Cluster()
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture
def address(cluster: Any) -> str:
    """The cluster's address, where all three nodes live."""
    return whole(cluster)


def whole(cluster: Any) -> str:
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes(timeout=60)
    return str(cluster.address)


def opened(make: Callable[[], Engine], address: str, replicas: int = 3, batch_size: int = 16) -> RayEngine:
    options = EngineOptions(kind="ray", address=address, replicas=replicas, batch_size=batch_size)
    return RayEngine(make, options)


def asked(count: int) -> list[Request]:
    return [Request(f"k{i}", f"Question {i}?", f"prefix {i % 2}", Sampling(), seed=i) for i in range(count)]


def kill_one(cluster: Any) -> None:
    """End a node at once, with the worker on it."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


class TestScriptedInside(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, cluster: Any) -> Iterator[Engine]:
        engine = opened(partial(scripted, words), whole(cluster), batch_size=3)
        yield engine
        engine.close()


class TestTinyModelInside(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
        path = tiny_model_dir(tmp_path_factory.mktemp("model"))
        options = EngineOptions(kind="embedded", dtype="float32", batch_size=4)
        engine = opened(partial(open_engine, options, str(path)), whole(cluster), replicas=2, batch_size=4)
        yield engine
        engine.close()

    def test_texts_are_those_of_the_inner_engine(self, tmp_path: Path, engine: Engine) -> None:
        options = EngineOptions(kind="embedded", dtype="float32", batch_size=4)
        inner = open_engine(options, engine.describe()["model"])
        try:
            expected = by_key(inner.generate(asked(12)))
            assert by_key(engine.generate(asked(12))) == expected
            assert inner.describe() == engine.describe()
        finally:
            inner.close()


def test_a_node_that_dies_loses_no_request_and_doubles_none(
    cluster: Any, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = by_key(ScriptedEngine(words).generate(asked(200)))
    engine = opened(partial(scripted, slow_words), address)
    found: list[Completion] = []
    try:
        for completion in engine.generate(asked(200)):
            found.append(completion)
            if len(found) == 40:
                kill_one(cluster)
    finally:
        engine.close()
    assert "a replica died" in caplog.text
    assert len(found) == 200
    assert {c.key: c.text for c in found} == {key: c.text for key, c in expected.items()}


def test_a_replica_comes_back_on_a_node_that_joins(cluster: Any, address: str) -> None:
    engine = opened(partial(scripted, slow_words), address)
    try:
        answers = engine.generate(asked(60))
        next(answers)
        kill_one(cluster)
        list(answers)
        whole(cluster)
        end = time.monotonic() + 60
        while engine._away and time.monotonic() < end:
            assert len(list(engine.generate(asked(60)))) == 60
        assert (len(engine.replicas), engine._away) == (3, {})
    finally:
        engine.close()


def test_work_begins_without_a_replica_that_finds_no_room(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("selfalign.engines.ray.engine.resources", lambda nodes, options: {"num_cpus": 1})
    monkeypatch.setattr("selfalign.engines.ray.engine.LATE_SECONDS", 1.0)
    engine = opened(partial(scripted, words), address, replicas=4)
    try:
        assert "3 of 4 replicas are up; the others join when they are" in caplog.text
        assert len(engine._away) == 1
        assert len(list(engine.generate(asked(60)))) == 60
    finally:
        engine.close()


def test_a_run_whose_node_dies_gives_the_records_of_a_run_without_ray(
    cluster: Any, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "selfalign")
    sizes: dict[str, Any] = {"chunk_size": 16, "instructions": {"topic_guided": 40, "self_instruct": 40}}
    run(small_recipe(tmp_path, **sizes), tmp_path / "plain", until="responses")
    over_ray = {"kind": "ray", "inside": "scripted", "script": "tests.support.scripts:slow_answer"}
    over_ray |= {"replicas": 3, "address": address, "batch_size": 4}
    killer = threading.Thread(target=kill_when_there_is, args=(cluster, tmp_path / "ray" / "instructions.jsonl"))
    killer.start()
    run(small_recipe(tmp_path, engine=over_ray, **sizes), tmp_path / "ray", until="responses")
    killer.join(timeout=30)
    assert not killer.is_alive()
    assert "a replica died" in (tmp_path / "ray" / "logs" / "run.log").read_text(encoding="utf-8") + caplog.text
    assert records(tmp_path / "ray") == records(tmp_path / "plain")
    assert sum(map(len, records(tmp_path / "ray").values())) > 200


def kill_when_there_is(cluster: Any, file: Path) -> None:
    """Wait for the run to write the file, then kill a node."""
    end = time.monotonic() + 60
    while not (file.exists() and file.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    kill_one(cluster)


def records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every record of a run in its order, accepted and rejected."""
    files = [path / folder / f"{name}.jsonl" for name in STORES for folder in ("", "rejected")]
    return {
        str(file.relative_to(path)): [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in files
        if file.exists()
    }


def test_a_request_that_kills_every_worker_ends_the_work(address: str) -> None:
    engine = opened(partial(scripted, deadly), address, batch_size=4)
    asked_for = [*asked(12), Request("z", "poison", "a prefix of its own")]
    found: list[Completion] = []
    try:
        with pytest.raises(EngineFailed, match=f"workers died {MOST_DEATHS + 1} times over one batch"):
            found.extend(engine.generate(asked_for))
    finally:
        engine.close()
    assert len(by_key(found)) == len(found)
    assert "z" not in by_key(found)


def test_a_replica_that_cannot_open_its_engine_says_on_which_node(address: str) -> None:
    with pytest.raises(UserError, match=r"^node [\d.]+: there is no model in /models/none") as caught:
        opened(without_model, address)
    assert (type(caught.value), caught.value.hint, caught.value.exit_code) == (UserError, "copy it there", 1)
    assert not ray.is_initialized()


def test_what_the_inner_engine_raises_comes_out_as_it_is(address: str) -> None:
    engine = opened(partial(Failing, words), address)
    try:
        with pytest.raises(EngineFailed, match="layer 3 gave NaN") as caught:
            list(engine.generate(asked(8)))
    finally:
        engine.close()
    assert (type(caught.value), caught.value.hint, caught.value.exit_code) == (EngineFailed, "use float32", 1)


def test_closing_the_iterator_stops_the_workers(address: str) -> None:
    engine = opened(partial(scripted, slow_words), address, replicas=1, batch_size=400)
    try:
        answers = engine.generate(asked(800))
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        start = time.monotonic()
        assert len(list(engine.generate(asked(1)))) == 1
        assert time.monotonic() - start < 400 * SECONDS / 2
    finally:
        engine.close()


def test_a_stream_comes_piece_by_piece(address: str) -> None:
    engine = opened(partial(scripted, words), address, replicas=1)
    request = Request("s", "x " * 40, sampling=Sampling())
    try:
        list(engine.stream(request))
        start = time.monotonic()
        arrived = [(time.monotonic() - start, piece) for piece in engine.stream(request)]
    finally:
        engine.close()
    assert "".join(piece for _, piece in arrived) == words(request)
    assert arrived[0][0] < arrived[-1][0] / 3


def test_a_cluster_started_here_is_gone_after_close(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = psutil.Process().children()
    engine = opened(partial(scripted, words), "", replicas=2)
    started = [process for process in psutil.Process().children() if process not in before]
    assert len(by_key(engine.generate(asked(20)))) == 20
    engine.close()
    assert len(started) > 1  # a raylet and a control store, at least
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
    assert not ray.is_initialized()


def test_an_address_where_nothing_answers_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(UserError, match=f"{address}.*no Ray cluster answers") as caught:
            opened(partial(scripted, words), address)
        assert time.monotonic() - start < 30
    assert "ray start --head" in caught.value.hint
