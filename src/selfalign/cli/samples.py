"""selfalign samples RUN --stage S."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

STAGES = ("topics", "instructions", "responses", "elaborations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign samples`."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--stage", required=True, help=", ".join(STAGES))
    parser.add_argument("--rejected", action="store_true", help="the rejected ones, with the filter and its reason")
    parser.add_argument("-n", type=int, default=10, help="how many, drawn at random (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="draws others")
    parser.add_argument("--json", action="store_true", help="the records themselves, one a line")


def main(options: argparse.Namespace) -> int:
    """Print random records of a stage."""
    from selfalign.errors import UserError
    from selfalign.pipeline.manifest import StageName
    from selfalign.pipeline.run_directory import open_run
    from selfalign.record_store import RecordFile

    run = open_run(Path(options.run))
    with_records = [name for name in run.stages if StageName.of(name).base in STAGES]
    if options.stage not in with_records:
        raise UserError(f"--stage {options.stage!r} has no records; stages with records are {', '.join(with_records)}")
    if options.n < 1:
        raise UserError(f"-n {options.n} must be at least 1")
    path = run.path / "rejected" / f"{options.stage}.jsonl" if options.rejected else run.path / f"{options.stage}.jsonl"
    records = RecordFile(path)
    if not records:
        kind = "rejected" if options.rejected else "accepted"
        raise UserError(
            f"{run.path} has no {kind} records of {options.stage}", f"selfalign status {run.path}", exit_code=1
        )
    for record in random.Random(options.seed).sample(records, min(options.n, len(records))):
        print(record.to_json() if options.json else describe(record))
    return 0


def describe(record: object) -> str:
    """A record for the eye."""
    from selfalign.records import Record

    assert isinstance(record, Record)
    lines = [f"--- {record.key}" + (f"  [{record.type}: {record.topic}]" if record.topic else "")]
    lines += [f"{message['role']}: {message['content']}" for message in record.messages if message["role"] == "user"]
    if record.thought:
        lines.append(f"thought: {record.thought}")
    lines += [
        f"{message['role']}: {message['content']}" for message in record.messages if message["role"] == "assistant"
    ]
    if not record.verdict.accepted:
        lines.append(f"rejected by {record.verdict.filter}: {record.verdict.reason}")
    return "\n".join(lines) + "\n"
