"""Resident memory of the server under 16 users who never stop asking.

python -m benchmarks.serving memory --minutes 10
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines.provenance import shown
from benchmarks.serving import contenders
from benchmarks.serving.client import Answer, crowd
from benchmarks.serving.compare import BESIDE
from benchmarks.serving.figures import slope
from benchmarks.serving.messages import question
from benchmarks.serving.servers import Running, running

EVERY = 2.0
"""Seconds between two looks at the memory."""
WARM_SHARE = 0.2
"""Part of the time, at its beginning, in which the server may still grow what it then keeps."""
LENGTHS = (16, 64, 128, 32, 96)
"""New tokens of the answers, in turn: rows of many lengths come and go."""


class Sample(NamedTuple):
    """Minutes since the beginning, and MiB."""

    minutes: float
    mib: float


def measure(model: str, minutes: float) -> dict[str, Any]:
    """Start the server, let the users at it, and watch."""
    with tempfile.TemporaryDirectory() as place, running(contenders.ours(model), Path(place)) as server:
        before = round(server.resident_mib(), 1)
        samples, answers = asyncio.run(watched(server, minutes * 60))
    return {
        "model": shown(model),
        "users": BESIDE,
        "minutes": minutes,
        "requests": len(answers),
        "errors": sum(bool(answer.error) for answer in answers),
        "faults": sorted({answer.error for answer in answers if answer.error})[:3],
        "tokens": sum(answer.tokens for answer in answers),
        "ready_mib": before,
        **flatness(samples),
        "samples": [[round(value, 2) for value in sample] for sample in samples[:: max(1, len(samples) // 120)]],
    }


async def watched(server: Running, seconds: float) -> tuple[list[Sample], list[Answer]]:
    """(memory over time, all answers)."""
    end = time.monotonic() + seconds
    users = [asyncio.create_task(insatiable(server, number, end)) for number in range(BESIDE)]
    began, samples = time.monotonic(), []
    while time.monotonic() < end:
        samples.append(Sample((time.monotonic() - began) / 60, server.resident_mib()))
        await asyncio.sleep(EVERY)
    answers = await asyncio.gather(*users)
    return samples, list(itertools.chain.from_iterable(answers))


async def insatiable(server: Running, number: int, end: float) -> list[Answer]:
    """One user until the end. A server that answers nothing is not asked at full speed."""
    made, answers = server.server, []
    for turn in itertools.count():
        if time.monotonic() >= end:
            return answers
        body = question(turn * BESIDE + number).body(made.model, LENGTHS[(turn + number) % len(LENGTHS)])
        answers += await crowd(made.url, [[body]])
        if answers[-1].error:
            await asyncio.sleep(1)
    raise AssertionError("counting has no end")


def flatness(samples: Sequence[Sample]) -> dict[str, float]:
    """Ends, peak, and the rise a minute after the warm-up."""
    last = samples[-1].minutes
    settled = [sample for sample in samples if sample.minutes >= WARM_SHARE * last]
    return {
        "first_mib": round(samples[0].mib, 1),
        "settled_mib": round(settled[0].mib, 1),
        "last_mib": round(samples[-1].mib, 1),
        "peak_mib": round(max(sample.mib for sample in samples), 1),
        "slope_mib_per_minute": round(slope(*zip(*settled, strict=True)), 3),
    }


def text(result: dict[str, Any]) -> str:
    """For the eye."""
    return (
        f"{result['minutes']:g} minutes, {result['users']} users, {result['requests']} requests, "
        f"{result['errors']} errors: {result['ready_mib']} MiB when ready, {result['settled_mib']} MiB warmed up, "
        f"{result['last_mib']} MiB at the end, {result['peak_mib']} MiB at most; "
        f"{result['slope_mib_per_minute']:+} MiB a minute after the warm-up"
    )
