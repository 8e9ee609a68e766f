"""Requests/s over 1, 2 and 3 local Ray nodes, and what Ray costs a request, without a model.

    python -m benchmarks.ray [--nodes 3] [--sleep 0.01] [--repeats 3] [--output benchmarks/results/ray.json]

Each node has one CPU and hosts one scripted engine, which sleeps so many seconds a request, or not at all; the same
requests are first put to such an engine in this process. A request is one of stage responses: the constitution's prefix
and an instruction, answered by some hundred words. Overhead is the time with Ray less the time without over as many
engines, a request.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.engines import table

from selfalign.constitution.loading import load_constitution
from selfalign.constitution.rendering import responses_prefix, thought_prompt
from selfalign.engines.base import Engine, Request, Sampling
from selfalign.engines.scripted import ScriptedEngine
from selfalign.recipe import EngineOptions

BATCH_SIZE = 64
"""The recipe's default."""
OBJECT_STORE_BYTES = 80 * 2**20
ANSWER = "Rivers carry silt to the delta, and the delta keeps what the sea does not take. " * 6
"""Ninety-six words."""
COLUMNS = ["nodes", "sleep_ms", "requests", "per_second", "repeats", "of_nodes", "overhead_us", "driver_us"]


class Timed(NamedTuple):
    """Wall-clock seconds, and processor seconds of this process, for all requests."""

    seconds: float
    processor: float


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    work = {options.sleep: options.requests, 0.0: options.requests_without}
    alone = {sleep: repeated(scripted(sleep), asked(count), options.repeats) for sleep, count in work.items()}
    rows = [row_of(0, sleep, work[sleep], times, times) for sleep, times in alone.items()]
    for nodes, address in clusters(options.nodes):
        for sleep, count in work.items():
            with over_ray(sleep, nodes, address) as engine:
                times = repeated(engine, asked(count), options.repeats)
            rows.append(row_of(nodes, sleep, count, times, alone[sleep]))
            print(rows[-1], file=sys.stderr, flush=True)
    characters = len(asked(1)[0].prefix)
    result = {"ray": importlib.metadata.version("ray"), "prefix_characters": characters, "batch_size": BATCH_SIZE}
    table.finish(result | {"rows": rows}, text(rows), arguments, options.output, package="benchmarks.ray")
    return 0


# --------------------------------------------------------------------------------------------------------------- work


def asked(count: int) -> list[Request]:
    """Requests of one prefix."""
    prefix = responses_prefix(load_constitution("dromedary"))
    prompts = (thought_prompt(f"What is the {number}th thing to know about rivers?", "") for number in range(count))
    return [
        Request(f"{number:06}", prompt, prefix, Sampling(max_tokens=256), seed=number)
        for number, prompt in enumerate(prompts)
    ]


def answer(request: Request, sleep: float) -> str:
    """The same for all, after `sleep` seconds."""
    if sleep:
        time.sleep(sleep)
    return ANSWER


def scripted(sleep: float) -> Engine:
    """One engine without a model."""
    return ScriptedEngine(partial(answer, sleep=sleep))


def repeated(engine: Engine, requests: list[Request], repeats: int) -> list[Timed]:
    """The times of each repeat, after a batch for every engine that is not timed."""
    list(engine.generate(requests[: 4 * BATCH_SIZE]))
    return [timed(engine, requests) for _ in range(repeats)]


def timed(engine: Engine, requests: list[Request]) -> Timed:
    """One repeat. A completion that is missing is an error."""
    start, processor = time.perf_counter(), time.process_time()
    found = {completion.key for completion in engine.generate(requests)}
    took = Timed(time.perf_counter() - start, time.process_time() - processor)
    if found != {request.key for request in requests}:
        raise SystemExit(f"{len(found)} of {len(requests)} requests were answered")
    return took


# ------------------------------------------------------------------------------------------------------------ cluster


def clusters(most: int) -> Iterator[tuple[int, str]]:
    """1, 2, ... nodes of one CPU each on this machine, and their address."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for nodes in range(1, most + 1):
            head = {"include_dashboard": False} if nodes == 1 else {}
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, **head)
            cluster.wait_for_nodes(timeout=60)
            yield nodes, str(cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def over_ray(sleep: float, nodes: int, address: str) -> Iterator[Engine]:
    """A scripted engine on every node."""
    from selfalign.engines.ray.engine import RayEngine

    options = EngineOptions(kind="ray", inside="scripted", replicas=nodes, address=address, batch_size=BATCH_SIZE)
    engine = RayEngine(partial(scripted, sleep), options)
    try:
        yield engine
    finally:
        engine.close()


# -------------------------------------------------------------------------------------------------------------- table


def row_of(nodes: int, sleep: float, requests: int, times: list[Timed], alone: list[Timed]) -> dict[str, Any]:
    """One line of the table; `nodes` 0 is this process without Ray. `of_nodes` is its rate over that of its engines."""
    seconds, ideal = median(row.seconds for row in times), median(row.seconds for row in alone) / max(nodes, 1)
    return {
        "nodes": nodes,
        "sleep_ms": 1000 * sleep,
        "requests": requests,
        "per_second": round(requests / seconds),
        "repeats": [round(requests / row.seconds) for row in times],
        "of_nodes": round(ideal / seconds, 3),
        "overhead_us": round((seconds - ideal) / requests * 1e6) if nodes else None,
        "driver_us": round(median(row.processor for row in times) / requests * 1e6),
    }


def text(rows: list[dict[str, Any]]) -> str:
    """The table."""
    shown = [{**row, "nodes": row["nodes"] or "no Ray", "repeats": ", ".join(map(str, row["repeats"]))} for row in rows]
    return table.table(COLUMNS, [[row[name] for name in COLUMNS] for row in shown])


def parse(arguments: list[str]) -> argparse.Namespace:
    """The words."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ray", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3, help="local nodes at most")
    parser.add_argument("--sleep", type=float, default=0.01, help="seconds that a request takes in the slow rows")
    parser.add_argument("--requests", type=int, default=384, help="requests of the slow rows")
    parser.add_argument("--requests-without", type=int, default=3840, help="requests of the rows without a sleep")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
