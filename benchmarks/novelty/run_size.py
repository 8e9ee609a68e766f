"""One size in a process of its own: `python -m benchmarks.novelty.run_size COUNT` prints a line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from benchmarks.novelty.texts import instructions

from selfalign.filters.novelty import Novelty

THRESHOLD = 0.7


def measure(count: int) -> dict[str, Any]:
    """Judge every text against all accepted before it, and add it if it is new."""
    texts = instructions(count)
    before, novelty = peak_mib(), Novelty(THRESHOLD)
    accepted = pairs = 0
    start, processor = time.monotonic(), time.process_time()
    for text in texts:
        pairs += accepted
        if novelty.judge(text).accepted:
            novelty.add(text)
            accepted += 1
    return {
        "instructions": count,
        "seconds": round(time.monotonic() - start, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "accepted": accepted,
        "pairs": pairs,
        "settled": novelty.settled,
        "peak_mib": round(peak_mib()),
        "mib_of_index": round(peak_mib() - before),
    }


def peak_mib() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
