"""The command `selfalign`: a table of commands, each a plain function in a module of its own."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from selfalign.errors import UserError

Main = Callable[[argparse.Namespace], int]


class Command(NamedTuple):
    """A command's module (with `add_arguments` and `main`) and what it does in one line."""

    module: str
    help: str


COMMANDS = {
    "run": Command("run", "run all stages of a recipe; run again to resume"),
    "launch": Command("launch", "run a recipe on many machines: a batch script for SLURM, over Ray"),
    "status": Command("status", "stages of a run: counts, yield, rejections, tokens, seconds"),
    "samples": Command("samples", "records of a stage, accepted or rejected"),
    "report": Command("report", "write RUN/report.html, or hold two runs against each other"),
    "constitution": Command("constitution", "check, show or count what a human wrote"),
    "weights": Command("weights", "merge, delta, convert, pad and quantise models, each proved equal"),
    "release": Command("release", "write or upload model and data set repositories, with cards"),
    "plan": Command("plan", "which tensor x pipeline x data layout for N GPUs, and why"),
    "eval": Command("eval", "measure a model on benchmarks, with intervals"),
    "compare": Command("compare", "hold models and the stages of runs against each other, in pairs"),
    "ablate": Command("ablate", "what a principle, an exemplar, a type or the thoughts are worth, in pairs"),
    "chat": Command("chat", "talk to a model in the terminal"),
    "serve": Command("serve", "serve a run's models: OpenAI API and chat page"),
    "models": Command("models", "what may stand where a command takes MODEL"),
    "doctor": Command("doctor", "what this machine has, and what is missing"),
}

MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Full, read-only or not the user's: told in one line wherever it happens, since no traceback would say more."""


def main(arguments: list[str] | None = None) -> int:
    """Parse, run one command, and turn what went wrong into one line and an exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Threads that spin long while they wait cost 3 to 8 times the speed where another process wants a core, and threads
    # that never spin a fifth of it where none does; this many turns cost neither (dev/LOG.md, 2026-11-23).
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        options, run = parse(arguments)
        return run(options)
    except UserError as fault:
        print(f"selfalign: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from here" if arguments[:1] == ["run"] else ""
        print(f"\nselfalign: stopped{goes_on}", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as fault:
        if fault.errno not in MACHINE_FAULTS:
            raise
        print(f"selfalign: {fault.filename or 'a file'}: {fault.strerror}", file=sys.stderr)
        return 1


def parse(arguments: list[str]) -> tuple[argparse.Namespace, Main]:
    """The options, and the command's function. Only the module of the command in hand is imported."""
    from selfalign import __version__

    parser = argparse.ArgumentParser(
        prog="selfalign",
        description="Turn a base language model into an assistant that follows your principles.",
        epilog="Start with: selfalign run recipes/demo.yaml --out runs/demo",
    )
    parser.add_argument("--version", action="version", version=f"selfalign {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    for name, command in COMMANDS.items():
        section = commands.add_parser(name, help=command.help, description=command.help)
        if name == wanted:
            module_of(command).add_arguments(section)
    options = parser.parse_args(arguments)
    return options, module_of(COMMANDS[options.command]).main


def module_of(command: Command) -> Any:
    """The command's module, imported."""
    return importlib.import_module(f"selfalign.cli.{command.module}")


if __name__ == "__main__":
    sys.exit(main())
