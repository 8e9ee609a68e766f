"""selfalign launch TARGET: a table of targets, each with `add_arguments` and `main` in a module of its own."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

TARGETS: dict[str, str] = {
    "slurm": "a batch script that runs a recipe over Ray on N nodes: printed, or submitted",
    "nodes": "how many nodes of a Ray cluster are there (what the batch script waits for)",
}
"""Target -> what it does in one line. Its module has the target's name."""


class DashedValues(argparse.ArgumentParser):
    """Takes `--sbatch --qos=long`, whose value argparse would read as an option of its own."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse, with each `--sbatch VALUE` as one word."""
        words: list[str] = []
        for word in args or ():
            if words and words[-1] == "--sbatch":
                words[-1] = f"--sbatch={word}"
            else:
                words.append(word)
        return super().parse_known_args(words, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One parser a target."""
    targets = parser.add_subparsers(dest="target", metavar="TARGET", required=True, parser_class=DashedValues)
    for name, meaning in TARGETS.items():
        module_of(name).add_arguments(targets.add_parser(name, help=meaning, description=meaning))


def main(options: argparse.Namespace) -> int:
    """Launch."""
    status: int = module_of(options.target).main(options)
    return status


def module_of(target: str) -> Any:
    """The target's module, imported. It imports nothing heavy before its `main` runs."""
    return importlib.import_module(f"selfalign.cli.launch.{target}")
