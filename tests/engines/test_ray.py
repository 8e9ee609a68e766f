"""The ray engine, as far as it needs no Ray: batches, shares, and what is said where there is none."""

from __future__ import annotations

import itertools
import sys
import time

import pytest
from benchmarks.ray.__main__ import Timed, row_of, text

from selfalign.engines.base import Request, Sampling
from selfalign.engines.ray.cluster import cpu_share, join_cluster, resources
from selfalign.engines.ray.engine import RayEngine, batches
from selfalign.engines.scripted import ScriptedEngine
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions


def asked(count: int) -> list[Request]:
    return [Request(f"k{i}", "?" * (i % 5 + 1), f"prefix {i % 3}", Sampling(), seed=i) for i in range(count)]


def test_a_batch_has_one_prefix_and_the_longest_prompts_first() -> None:
    made = batches(asked(50), 8)
    assert sorted(request.key for batch in made for request in batch) == sorted(request.key for request in asked(50))
    for batch in made:
        assert len({request.prefix for request in batch}) == 1
        assert [len(request.prompt) for request in batch] == sorted((len(r.prompt) for r in batch), reverse=True)
    assert sorted(len(batch) for batch in made) == [1, 1, 8, 8, 8, 8, 8, 8]  # 17, 17 and 16 requests


def test_batches_do_not_depend_on_the_order_of_the_requests() -> None:
    assert batches(reversed(asked(50)), 8) == batches(iter(asked(50)), 8)


@pytest.mark.parametrize(
    ("cpus", "replicas", "share"),
    [
        ([2.0], 1, 2.0),
        ([2.0], 2, 1.0),
        ([2.0], 3, 0.6666),
        ([16.0, 16.0, 8.0], 3, 8.0),
        ([16.0, 16.0, 8.0], 2, 16.0),
        ([0.0, 5.0], 2, 2.0),  # a head node that takes no work; Ray wants whole CPUs above one
        ([0.0], 2, 0.0),
    ],
)
def test_cpus_are_shared_so_that_all_replicas_fit(cpus: list[float], replicas: int, share: float) -> None:
    assert cpu_share(cpus, replicas) == pytest.approx(share)


@pytest.mark.parametrize(("size", "replicas"), list(itertools.product([1, 2, 3, 7, 64], [1, 2, 5, 9])))
def test_a_share_is_never_more_than_there_is(size: int, replicas: int) -> None:
    share = cpu_share([float(size), 4.0], replicas)
    assert int(size / share) + int(4 / share) >= replicas


def node(alive: bool = True, **has: float) -> dict[str, object]:
    return {"Alive": alive, "Resources": {"CPU": 8.0, **has}}


def test_each_replica_gets_its_gpus_where_there_are_any() -> None:
    nodes = [node(), node(GPU=4.0), node(GPU=4.0), node(alive=False, GPU=8.0)]
    vllm = EngineOptions(kind="ray", inside="vllm", replicas=4, tensor_parallel_size=2)
    assert resources(nodes, vllm) == {"num_gpus": 2, "num_cpus": 1.0}
    assert resources(nodes, EngineOptions(kind="ray", replicas=8, tensor_parallel_size=2))["num_gpus"] == 1
    assert "num_gpus" not in resources([node()], vllm)


def test_replicas_that_do_not_fit_are_told_and_how_many_would() -> None:
    options = EngineOptions(kind="ray", inside="vllm", replicas=4, tensor_parallel_size=3)
    with pytest.raises(
        UserError, match=r"replicas 4 with 3 GPU each: .* room for 2 \(GPUs of its nodes: 4, 4\)"
    ) as caught:
        resources([node(GPU=4.0), node(GPU=4.0)], options)
    assert caught.value.hint.startswith("set engine.replicas to 2")


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="ray cannot be imported") as caught:
        RayEngine(lambda: ScriptedEngine(lambda _: ""), EngineOptions(kind="ray"))
    assert caught.value.hint == 'pip install "selfalign[ray]"'


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "nonsense"])
def test_an_address_that_cannot_be_one_is_told(address: str) -> None:
    ray = pytest.importorskip("ray")
    start = time.monotonic()
    with pytest.raises(UserError, match=address):
        join_cluster(ray, address)
    assert time.monotonic() - start < 30
    assert not ray.is_initialized()


def test_what_ray_costs_is_its_time_less_that_of_as_many_engines_without_it() -> None:
    alone = [Timed(3.0, 1.0), Timed(4.0, 1.0), Timed(9.0, 1.0)]
    row = row_of(2, 0.01, 1000, [Timed(2.5, 0.5)], alone)
    assert (row["per_second"], row["of_nodes"], row["overhead_us"], row["driver_us"]) == (400, 0.8, 500, 500)
    row = row_of(0, 0.01, 1000, alone, alone)
    assert (row["per_second"], row["of_nodes"], row["overhead_us"]) == (250, 1.0, None)
    assert "no Ray" in text([row])
