"""selfalign weights delta MODEL --base BASE --to DIR."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign weights delta`."""
    from selfalign.cli.weights.merge import size

    parser.add_argument("model", help="the tuned model: a model or adapter directory, or a run (its final model)")
    parser.add_argument("--base", required=True, help="the model that it was tuned from")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="a new directory for the delta")
    parser.add_argument(
        "--shard-size", type=size, default="2GiB", metavar="SIZE", help="largest file, such as 500MB (default 2GiB)"
    )


def main(options: argparse.Namespace) -> int:
    """Write the delta, read it back, and say that it adds up."""
    from selfalign.engines.embedded.loading import resolve_base, resolve_model
    from selfalign.weights.delta import name_of, write_delta
    from selfalign.weights.delta_adapter import write_adapter_delta

    tuned, base = resolve_model(options.model, options.base), Path(resolve_base(options.base))
    name = name_of(options.base)
    if tuned.adapter:
        written = write_adapter_delta(tuned.adapter, base, name, options.to)
        print(f"{written.directory}: the adapter itself, with the checksums of its base {name}")
        print(f"read back: all {written.tensors} factors equal those of {options.model}, bit for bit")
        return 0
    written = write_delta(Path(tuned.base), base, name, options.to, options.shard_size)
    print(f"{written.directory}: {written.tensors} tensors as differences from {name}, {written.nbytes / 1e9:.2f} GB")
    if written.alone:
        print(f"{name} has nothing like {', '.join(written.alone)}: stored whole")
    print(f"read back and added to {name}: all {written.tensors} tensors equal those of {options.model}, bit for bit")
    return 0
