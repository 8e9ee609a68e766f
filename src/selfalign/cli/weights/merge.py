"""selfalign weights merge MODEL --to DIR."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign weights merge`."""
    parser.add_argument("model", help="an adapter directory, or a run (its final model)")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR", help="a new directory for the merged model")
    parser.add_argument("--base", help="the base, if it is not where the adapter says")
    parser.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], help="of what is written (default: the base's own)"
    )
    parser.add_argument(
        "--shard-size", type=size, default="2GiB", metavar="SIZE", help="largest file, such as 500MB (default 2GiB)"
    )
    parser.add_argument("--no-proof", action="store_true", help="do not compare the log-probabilities")


def size(text: str) -> int:
    """Bytes, from `2GiB`, `500MB` or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)?", text.strip().upper())
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 2GiB or 500MB")
    return int(float(match[1]) * UNITS[match[2] or ""])


def main(options: argparse.Namespace) -> int:
    """Merge, then prove by the log-probabilities that both are one model."""
    from selfalign.engines.embedded.loading import resolve_model
    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.weights.merge import merge_adapter, pad_is_eos
    from selfalign.weights.proof import format_proof

    quiet_libraries()
    source = resolve_model(options.model, options.base or "")
    merged = merge_adapter(
        source, options.to, options.dtype, options.shard_size, options.base, prove=not options.no_proof
    )
    untied = "; input and output embeddings are no longer tied" if merged.untied else ""
    print(
        f"{merged.directory}: {merged.changed} of {merged.tensors} tensors changed by the adapter, "
        f"{merged.nbytes / 1e9:.2f} GB in {merged.dtype}{untied}"
    )
    if merged.proof:
        print(f"base + adapter against {options.to}: {format_proof(merged.proof)}")
    if token := pad_is_eos(source):
        print(
            f"selfalign: note: the tokenizer pads with its end-of-text token ({token}). Nothing to do for generating; "
            "a trainer that leaves pad tokens out of the loss would not learn to stop",
            file=sys.stderr,
        )
    return 0
