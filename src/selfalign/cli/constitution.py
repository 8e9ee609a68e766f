"""selfalign constitution check|show|ledger."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign constitution`."""
    parser.add_argument(
        "action", choices=["check", "show", "ledger"], help="find every fault; print it resolved; count it"
    )
    parser.add_argument(
        "constitution", nargs="?", default="dromedary", help="a built-in name or a YAML file (default: dromedary)"
    )


def main(options: argparse.Namespace) -> int:
    """Check, show or count a constitution."""
    if options.action == "check":
        return check_command(options.constitution)
    from selfalign.constitution.ledger import format_ledger, ledger
    from selfalign.constitution.loading import load_constitution, to_yaml

    constitution = load_constitution(options.constitution)
    print(to_yaml(constitution) if options.action == "show" else format_ledger(ledger(constitution)))
    return 0


def check_command(name: str) -> int:
    """Every fault with file and line; status 2 where one is an error."""
    from selfalign.constitution.check import check
    from selfalign.constitution.loading import find_constitution

    file = find_constitution(name)
    faults = check(file.text)
    for fault in faults:
        print(fault.format(file.source))
    errors = sum(fault.severity == "error" for fault in faults)
    print(f"{file.source}: {errors} errors, {len(faults) - errors} warnings", file=sys.stderr)
    return 2 if errors else 0
