"""How novelty grows: seconds, comparisons settled and memory for 1,000 to 366,000 instructions, on one core.

    python -m benchmarks.novelty [--sizes 1000 ...] [--brute 20000] [--output benchmarks/results/novelty.json]

Each size runs in a process of its own. Comparing with everything is measured on `--brute` texts (rapidfuzz, verdict by
verdict beside the filter's) and on 3,000 pairs (rouge_score), and extrapolated to the pairs of the largest size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

from benchmarks.engines import table
from benchmarks.engines.peers import ROOT
from benchmarks.engines.process import environment
from benchmarks.novelty.brute import with_rapidfuzz, with_rouge_score

SIZES = [1_000, 3_000, 10_000, 30_000, 100_000, 366_000]
COLUMNS = [
    "instructions",
    "seconds",
    "processor_seconds",
    "accepted",
    "pairs",
    "settled",
    "peak_mib",
    "mib_of_index",
    "exponent",
]


def main(arguments: list[str]) -> int:
    """Measure, print, write. Exit status 1 where a verdict differs."""
    options = parse(arguments)
    rows = [measure(size) for size in options.sizes]
    for before, row in pairwise(rows):
        row["exponent"] = exponent(before, row)
    rapidfuzz, rouge_score = with_rapidfuzz(options.brute), with_rouge_score(3_000)
    pairs = rows[-1]["pairs"]
    for brute in (rapidfuzz, rouge_score):
        brute["extrapolated_hours"] = round(brute["processor_seconds"] / brute["pairs"] * pairs / 3600, 1)
    result = {
        "sizes": rows,
        "exponent": exponent(rows[0], rows[-1]) if len(rows) > 1 else None,
        "rapidfuzz": rapidfuzz,
        "rouge_score": rouge_score,
    }
    table.finish(result, text(result), arguments, options.output, package="benchmarks.novelty")
    return int(rapidfuzz["differing_verdicts"] > 0)


def measure(size: int) -> dict[str, Any]:
    """In a fresh process, whose peak of memory is this size's."""
    call = [sys.executable, "-m", "benchmarks.novelty.run_size", str(size)]
    done = subprocess.run(call, cwd=ROOT, env=environment({}), capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def exponent(first: dict[str, Any], second: dict[str, Any]) -> float:
    """k, where processor seconds grow as instructions to the power of k."""
    longer = second["processor_seconds"] / first["processor_seconds"]
    return round(log(longer) / log(second["instructions"] / first["instructions"]), 2)


def text(result: dict[str, Any]) -> str:
    """The table, and what comparing with everything would take."""
    rows = [[row.get(name) for name in COLUMNS] for row in result["sizes"]]
    largest = result["sizes"][-1]["instructions"]
    lines = [table.table(COLUMNS, rows)]
    if result["exponent"]:
        lines.append(f"growth over all sizes: n^{result['exponent']}")
    fuzzy, rouge = result["rapidfuzz"], result["rouge_score"]
    lines += [
        f"rapidfuzz with everything: {fuzzy['processor_seconds']} s for {fuzzy['instructions']:,}; "
        f"{fuzzy['differing_verdicts']} verdicts differ; extrapolated to {largest:,}: {fuzzy['extrapolated_hours']} h",
        f"rouge_score: {rouge['processor_seconds']} s for {rouge['pairs']:,} pairs; "
        f"extrapolated to {largest:,}: {rouge['extrapolated_hours']} h",
    ]
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The words."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.novelty",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--brute", type=int, default=20_000, help="texts that are compared with everything")
    parser.add_argument("--output", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
