"""Joining a Ray cluster, or starting one here, and what of it one replica gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from selfalign.errors import UserError
from selfalign.recipe import EngineOptions

ANSWER_SECONDS = 25
"""How long a cluster may take to answer. Ray waits two minutes for one that is gone, then ends the process."""

MOST_CHARACTERS = 400
"""Of a message of Ray's: a version mismatch takes 300, and the log of a worker's death goes on for pages."""

PROBE = """
import sys
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient
GcsClient(address=canonicalize_bootstrap_address_or_die(sys.argv[1]))
"""
"""Asks a cluster for its id, in a process of its own that can be ended. `ray health-check` takes 2 s more to import."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Shared memory of a cluster that is started here. Only texts pass through it; Ray would take 30 % of the memory."""


def import_ray() -> Any:
    """The module `ray`, with its usage reports off. Raises UserError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as fault:
        raise UserError(f"engine.kind: ray cannot be imported: {fault}", 'pip install "selfalign[ray]"') from fault
    return ray


def join_cluster(ray: Any, address: str) -> bool:
    """Connect to `address`, else to $RAY_ADDRESS, else start a cluster here. False where a connection stood already.

    Where it gives True, `ray.shutdown()` leaves the cluster, and ends it if it was started here. Raises UserError for
    an address that does not answer.
    """
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    started_here: dict[str, Any] = {}
    if address == "local":
        started_here = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    else:
        check_address(address)
    with signals_kept():
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **started_here)
        except (OSError, RuntimeError, ValueError) as fault:
            raise UserError(f"engine.address {address!r}: {brief(fault)}", f"ray status --address {address}") from fault
    silence(ray)
    return True


def check_address(address: str) -> None:
    """Raises UserError where no Ray answers within ANSWER_SECONDS."""
    if address.startswith("ray://"):
        raise UserError(
            f"engine.address {address!r} is Ray Client's, which does not stream what workers give",
            "run selfalign on a machine of the cluster (`ray job submit`), with address: auto or HOST:6379",
        )
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, address], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        why = f"no Ray cluster answers within {ANSWER_SECONDS} s"
    else:
        if not done.returncode:
            return
        why = (done.stderr.strip().splitlines() or ["no Ray cluster answers"])[-1]
    raise UserError(f"engine.address {address!r}: {why}", "ray start --head on its first machine, then name HOST:6379")


@contextmanager
def signals_kept() -> Iterator[None]:
    """Undo Ray's own SIGTERM handler, which would end the process with status 1 or 15 instead of by the signal.

    What Ray started here ends with this process all the same: the kernel sees to it.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not before:  # Ray sets it in the main thread only
            signal.signal(signal.SIGTERM, before)


def silence(ray: Any) -> None:
    """Ray prints what happens to nodes and workers on standard output, where only results belong; the engine logs it.

    No option says so: `log_to_driver` stops the workers' lines alone.
    """
    ray._private.worker._worker_logs_enabled = False


def resources(nodes: Sequence[Mapping[str, Any]], options: EngineOptions) -> dict[str, float]:
    """What each replica asks of Ray, from `ray.nodes()`: GPUs where the cluster has any, else a share of the CPUs.

    Raises UserError where the replicas do not fit, which Ray would wait for without end.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = [node.get("GPU", 0.0) for node in alive]
    if options.inside == "scripted" or not any(gpus):
        return {"num_cpus": cpu_share([node.get("CPU", 0.0) for node in alive], options.replicas)}
    vllm = options.inside == "vllm"
    needed = options.tensor_parallel_size * options.pipeline_parallel_size if vllm else 1
    room = sum(int(count // needed) for count in gpus)
    if room < options.replicas:
        raise UserError(
            f"engine.replicas {options.replicas} with {needed} GPU each: the cluster has room for {room} "
            f"(GPUs of its nodes: {', '.join(f'{count:g}' for count in gpus)})",
            f"set engine.replicas to {room} or less, or add machines" if room else "lower engine.tensor_parallel_size",
        )
    return {"num_gpus": needed, "num_cpus": min(1.0, cpu_share([node.get("CPU", 0.0) for node in alive], room))}


def cpu_share(cpus: Sequence[float], replicas: int) -> float:
    """The most CPUs that each of `replicas` can have at once on nodes with `cpus`: whole ones, or a fraction of one.

    Ray gives a worker as many threads as it has CPUs.
    """
    shares = sorted({count / part for count in cpus for part in range(1, replicas + 1)}, reverse=True)
    for share in shares:
        if share and sum(int(count / share + 1e-9) for count in cpus) >= replicas:
            return float(int(share)) if share >= 1 else int(share * 10_000) / 10_000
    return 0.0


def brief(fault: BaseException) -> str:
    """What an exception of Ray's says, on one line and without the pages that may follow."""
    return " ".join(str(fault).split())[:MOST_CHARACTERS] or type(fault).__name__
