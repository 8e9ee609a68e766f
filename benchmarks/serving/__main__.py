"""Our server measured: `table` (the default), `memory`, `start`.

python -m benchmarks.serving [--users 1,4,16,64] [--peers transformers,llama.cpp] [--repeats 3]
python -m benchmarks.serving memory --minutes 10
python -m benchmarks.serving start
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engines.process import MeasurementFailed
from benchmarks.engines.table import finish
from benchmarks.serving import compare, memory, start
from benchmarks.serving.contenders import PEERS
from benchmarks.serving.tables import comparison

from selfalign.errors import UserError

PACKAGE = "benchmarks.serving"


def run_table(options: argparse.Namespace, arguments: list[str]) -> None:
    """Users at once: tokens/s, first token, gaps, errors."""
    names = [PEERS[name] for name in options.peers]
    setting = compare.Setting(
        options.model, options.users, names, options.new_tokens, options.repeats, options.gguf_type
    )
    result = compare.compare(setting)
    finish(result, comparison(result), arguments, options.output, PACKAGE)


def run_memory(options: argparse.Namespace, arguments: list[str]) -> None:
    """Resident memory over minutes at 16 users."""
    result = memory.measure(options.model, options.minutes)
    finish(result, memory.text(result), arguments, options.output, PACKAGE)


def run_start(options: argparse.Namespace, arguments: list[str]) -> None:
    """Start to ready over the model's load time."""
    result = start.measure(options.model, options.repeats)
    finish(result, start.text(result), arguments, options.output, PACKAGE)


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(prog=f"python -m {PACKAGE}", description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="name", required=True)
    side = command(commands, "table", run_table, "serving.json")
    side.add_argument("--users", type=numbers, default=list(compare.Setting.users), help="at once, such as 1,4,16,64")
    side.add_argument(
        "--peers", type=peers, default=list(PEERS), help=f"of {','.join(PEERS)}, at 16 users; '' for none"
    )
    side.add_argument("--new-tokens", type=int, default=compare.Setting.new_tokens)
    side.add_argument("--repeats", type=int, default=compare.Setting.repeats)
    side.add_argument("--gguf-type", default=compare.Setting.gguf_type, help="weights that llama.cpp is given")
    grown = command(commands, "memory", run_memory, "serving-memory.json")
    grown.add_argument("--minutes", type=float, default=10.0)
    begun = command(commands, "start", run_start, "serving-start.json")
    begun.add_argument("--repeats", type=int, default=5)
    return top


def command(commands: Any, name: str, run: Callable[..., None], output: str) -> argparse.ArgumentParser:
    """A command with the options that all have."""
    found: argparse.ArgumentParser = commands.add_parser(name, help=(run.__doc__ or "").strip())
    found.set_defaults(run=run)
    found.add_argument("--model", default=compare.Setting.model)
    found.add_argument("--output", type=Path, default=Path("benchmarks/results") / output)
    return found


def numbers(text: str) -> list[int]:
    """Whole numbers with commas."""
    return [int(word) for word in text.split(",")]


def peers(text: str) -> list[str]:
    """Peers by name."""
    found = [name for name in text.split(",") if name]
    if unknown := [name for name in found if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return found


def main(arguments: list[str]) -> int:
    """Run a command; `table` where none is named."""
    named = (arguments and not arguments[0].startswith("--")) or "--help" in arguments
    options = parser().parse_args(arguments if named else ["table", *arguments])
    try:
        options.run(options, arguments)
    except (UserError, MeasurementFailed) as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
