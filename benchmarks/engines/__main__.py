"""The engines measured: `compare` (the default), `growth`, `bound`, `scoring`, `streaming`.

python -m benchmarks.engines --model smollm2-135m --engines embedded,vllm,llama.cpp --instructions 64
python -m benchmarks.engines growth
python -m benchmarks.engines scoring --data truthfulqa/mc_task.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engines import growth, scoring, streaming, table
from benchmarks.engines.compare import BOUND_BATCHES, Setting, compare, make_job, measure_bound
from benchmarks.engines.peers import PEERS
from benchmarks.engines.provenance import cores, shown

from selfalign.errors import UserError


def run_compare(options: argparse.Namespace, arguments: list[str]) -> None:
    """Engines side by side."""
    result = compare(options.engines, setting(options), options.bound)
    table.finish(result, table.comparison(result), arguments, options.output)


def run_growth(options: argparse.Namespace, arguments: list[str]) -> None:
    """The embedded engine against batch size and prefix length."""
    result = growth.grow(setting(options), options.batches, options.prefixes)
    table.finish(result, growth.tables(result), arguments, options.output)


def run_bound(options: argparse.Namespace, arguments: list[str]) -> None:
    """Matrix products alone."""
    rows = measure_bound(make_job(setting(options)), options.batches)
    text = table.table(list(rows[0]), [list(row.values()) for row in rows])
    table.finish(
        {"model": shown(options.model), "bound": rows, "dtype": options.dtype, "threads": cores()},
        text,
        arguments,
        options.output,
    )


def run_scoring(options: argparse.Namespace, arguments: list[str]) -> None:
    """Ours and lm-evaluation-harness on TruthfulQA MC1."""
    result = scoring.compare(setting(options), options.data, options.questions, options.harness_batches)
    table.finish(result, scoring.text(result), arguments, options.output)


def run_streaming(options: argparse.Namespace, arguments: list[str]) -> None:
    """Time to the first token."""
    result = streaming.compare(setting(options), options.requests)
    table.finish(result, streaming.text(result), arguments, options.output)


def setting(options: argparse.Namespace) -> Setting:
    """From the command line; a command without an option has the default."""
    names = Setting.__dataclass_fields__
    return Setting(**{name: value for name, value in vars(options).items() if name in names})


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="name", required=True)
    side = command(commands, "compare", run_compare, "engines.json")
    side.add_argument("--engines", type=names, default=list(PEERS), help=f"of {','.join(PEERS)}")
    side.add_argument("--instructions", type=int, default=64)
    side.add_argument("--new-tokens", type=int, default=128)
    side.add_argument("--repeats", type=int, default=3)
    side.add_argument("--no-bound", dest="bound", action="store_false", help="leave the matrix products out")
    grow = command(commands, "growth", run_growth, "growth.json")
    grow.add_argument("--batches", type=numbers, default=growth.BATCHES)
    grow.add_argument("--prefixes", type=numbers, default=growth.PREFIXES)
    products = command(commands, "bound", run_bound, "bound.json")
    products.add_argument("--batches", type=numbers, default=list(BOUND_BATCHES))
    score = command(commands, "scoring", run_scoring, "scoring.json")
    score.add_argument("--data", type=Path, required=True, help="TruthfulQA's mc_task.json")
    score.add_argument("--questions", type=int, default=60, help="0 is all 817")
    score.add_argument("--harness-batches", type=words, default=["16"], help="to try, such as 16,32,64,auto")
    stream = command(commands, "streaming", run_streaming, "streaming.json")
    stream.add_argument("--requests", type=int, default=20)
    return top


def command(commands: Any, name: str, run: Callable[..., None], output: str) -> argparse.ArgumentParser:
    """A command with the options that all have."""
    found: argparse.ArgumentParser = commands.add_parser(name, help=(run.__doc__ or "").strip())
    found.set_defaults(run=run)
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    found.add_argument("--output", type=Path, default=Path("benchmarks/results") / output)
    return found


def names(text: str) -> list[str]:
    """Engines by name."""
    found = text.split(",")
    if unknown := [name for name in found if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"no engine {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return found


def words(text: str) -> list[str]:
    """Words with commas."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """Whole numbers with commas."""
    return [int(word) for word in text.split(",")]


def main(arguments: list[str]) -> int:
    """Run a command; `compare` where none is named."""
    chosen = (
        arguments
        if (arguments and not arguments[0].startswith("--")) or "--help" in arguments
        else ["compare", *arguments]
    )
    options = parser().parse_args(chosen)
    try:
        options.run(options, arguments)
    except UserError as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
