"""Where a run spends its time: seconds, tokens and yield a stage, and the share outside engine and trainer.

    python benchmarks/demo.py runs/demo [--output benchmarks/results/demo.json]

Reads the run's manifest, so the run is not repeated. Times are wall clock, summed over all sessions of the run; engine
seconds hold generation, model loading and training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = (
    "stage",
    "accepted",
    "rejected",
    "yield",
    "prompt_tokens",
    "new_tokens",
    "seconds",
    "engine_seconds",
    "tokens/s",
)


def measure(run: Path) -> dict[str, Any]:
    """Rows a stage, and the totals."""
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    rows = [row(name, stage) for name, stage in manifest["stages"].items()]
    seconds = sum(stage["seconds"] for stage in manifest["stages"].values())
    engine = sum(stage["engine_seconds"] for stage in manifest["stages"].values())
    return {
        "machine": manifest["machine"],
        "versions": manifest["versions"],
        "base_model": manifest["base_model"],
        "stages": rows,
        "seconds": round(seconds, 1),
        "share_outside_engine_and_trainer": round(1 - engine / seconds, 4) if seconds else None,
    }


def row(name: str, stage: dict[str, Any]) -> dict[str, Any]:
    """One stage."""
    rejected = sum(stage["rejected"].values())
    judged = stage["accepted"] + rejected
    new = stage["tokens"]["completion"]
    return {
        "stage": name,
        "accepted": stage["accepted"],
        "rejected": rejected,
        "yield": round(stage["accepted"] / judged, 3) if judged else None,
        "prompt_tokens": stage["tokens"]["prompt"],
        "new_tokens": new,
        "seconds": round(stage["seconds"], 1),
        "engine_seconds": round(stage["engine_seconds"], 1),
        "tokens/s": round(new / stage["engine_seconds"], 1) if new and stage["engine_seconds"] else None,
    }


def table(result: dict[str, Any]) -> str:
    """For the eye."""
    lines = [" ".join(f"{name:>14}" for name in COLUMNS)]
    for stage in result["stages"]:
        cells = ("" if stage[name] is None else str(stage[name]) for name in COLUMNS)
        lines.append(" ".join(f"{cell:>14}" for cell in cells))
    share = result["share_outside_engine_and_trainer"]
    lines.append(f"{result['seconds']} s in all on {result['machine']}; outside engine and trainer: {share:.1%}")
    return "\n".join(lines)


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/demo.json"))
    options = parser.parse_args()
    result = measure(options.run)
    print(table(result))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
