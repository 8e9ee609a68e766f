"""selfalign launch nodes ADDRESS: counts the nodes of a Ray cluster that are there, having waited for them."""

from __future__ import annotations

import argparse
import time
from typing import Any

POLL = 1.0
"""Seconds between two looks at the cluster."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign launch nodes`."""
    parser.add_argument("address", help="HOST:PORT of the cluster's head")
    parser.add_argument("--wait-for", type=int, default=1, metavar="N", help="wait until so many are there (default 1)")
    parser.add_argument("--seconds", type=float, default=0.0, help="wait no longer than this (default 0: look once)")


def main(options: argparse.Namespace) -> int:
    """Print how many there are; UserError where no cluster answers."""
    from selfalign.engines.ray.cluster import import_ray

    print(count_nodes(import_ray(), options.address, options.wait_for, options.seconds))
    return 0


def count_nodes(ray: Any, address: str, wait_for: int, seconds: float) -> int:
    """The nodes alive once there are `wait_for`, or when the time is over."""
    end = time.monotonic() + seconds
    join_when_up(ray, address, end)
    try:
        while (found := sum(bool(node["Alive"]) for node in ray.nodes())) < wait_for and time.monotonic() < end:
            time.sleep(POLL)
        return found
    finally:
        ray.shutdown()


def join_when_up(ray: Any, address: str, end: float) -> None:
    """Connect, and try again until `end` (of the monotonic clock) where nobody answers yet."""
    from selfalign.engines.ray.cluster import join_cluster
    from selfalign.errors import UserError

    while True:
        try:
            join_cluster(ray, address)
            return
        except UserError:
            if time.monotonic() >= end:
                raise
            time.sleep(POLL)
