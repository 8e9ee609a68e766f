"""selfalign weights apply DELTA --base BASE --to DIR."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign weights apply`."""
    from selfalign.cli.weights.merge import size

    parser.add_argument("delta", type=Path, help="the directory that `selfalign weights delta` wrote")
    parser.add_argument("--base", required=True, help="the model that it is a difference from")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="a new directory for the tuned model")
    parser.add_argument(
        "--shard-size", type=size, default="2GiB", metavar="SIZE", help="largest file, such as 500MB (default 2GiB)"
    )


def main(options: argparse.Namespace) -> int:
    """Check the base, add the delta to it, and compare the result with the tuned model's checksums."""
    from selfalign.engines.embedded.loading import resolve_base
    from selfalign.weights.delta import apply_delta, name_of
    from selfalign.weights.delta_adapter import apply_adapter_delta
    from selfalign.weights.delta_manifest import read_manifest

    manifest = read_manifest(options.delta)
    base, name = Path(resolve_base(options.base)), name_of(options.base)
    if manifest["kind"] == "adapter":
        written = apply_adapter_delta(options.delta, base, name, options.to)
        print(f"{written.directory}: the adapter {manifest['tuned']}, on {name}, whose checksums are right")
        print(f"read back: all {written.tensors} factors equal those of {manifest['tuned']}, bit for bit")
        return 0
    written = apply_delta(options.delta, base, name, options.to, options.shard_size)
    print(f"{written.directory}: {manifest['tuned']}, {written.tensors} tensors, {written.nbytes / 1e9:.2f} GB")
    print(f"read back: all {written.tensors} tensors have {manifest['tuned']}'s checksums, bit for bit")
    return 0
