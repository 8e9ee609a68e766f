"""selfalign constitution check|show|ledger|import|export."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ACTIONS = ("check", "show", "ledger", "import", "export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign constitution`."""
    parser.add_argument(
        "action",
        choices=ACTIONS,
        help="find every fault; print it resolved; count it; make one of the original's files; write those files",
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a built-in name or a YAML file (default: dromedary); import: folders, files, or KIND=FILE",
    )
    parser.add_argument(
        "--out", metavar="PATH", help="import: the YAML file to write (default: print); export: a folder"
    )
    parser.add_argument("--base", default="dromedary", help="import, export: gives what the files do not have")
    parser.add_argument("--name", default="", help="import: the assistant's name (default: the one in the files)")
    parser.add_argument("--maker", default="", help="import: who made the assistant")
    parser.add_argument("--cutoff", default="", help="import: what its knowledge goes up to")
    parser.add_argument("--licence", default="", help="import: the licence of the texts, told in cards")
    parser.add_argument(
        "--replace",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="import: put a text in for another, such as a name",
    )


def main(options: argparse.Namespace) -> int:
    """Check, show, count, import or export a constitution."""
    if options.action == "import":
        return import_command(options)
    name = one_name(options.names)
    if options.action == "check":
        return check_command(name)
    if options.action == "export":
        return export_command(name, options)
    from selfalign.constitution.ledger import format_ledger, ledger
    from selfalign.constitution.loading import load_constitution, to_yaml

    constitution = load_constitution(name)
    print(to_yaml(constitution) if options.action == "show" else format_ledger(ledger(constitution)))
    return 0


def one_name(names: list[str]) -> str:
    """The constitution that is named, or the default."""
    from selfalign.errors import UserError

    if len(names) > 1:
        raise UserError(f"one constitution at a time, not {len(names)}: {', '.join(names)}")
    return names[0] if names else "dromedary"


def check_command(name: str) -> int:
    """Every fault with file and line; status 2 where one is an error."""
    from selfalign.constitution.check import check
    from selfalign.constitution.loading import find_constitution
    from selfalign.report.words import plural

    file = find_constitution(name)
    faults = check(file.text)
    for fault in faults:
        print(fault.format(file.source))
    errors = sum(fault.severity == "error" for fault in faults)
    print(f"{file.source}: {plural(errors, 'error')}, {plural(len(faults) - errors, 'warning')}", file=sys.stderr)
    return 2 if errors else 0


def import_command(options: argparse.Namespace) -> int:
    """Print or write the constitution; what it is made of, and warnings, go to standard error."""
    from selfalign.constitution.original.importing import Wishes, import_constitution
    from selfalign.errors import UserError
    from selfalign.records import write_atomically

    if not options.names:
        raise UserError("selfalign constitution import needs files", "selfalign constitution import PATH/TO/prompts")
    out = Path(options.out) if options.out else None
    if out and out.exists():
        raise UserError(f"{out} is there already", "name another file: --out FILE")
    swaps = tuple(swap(text) for text in options.replace)
    wishes = Wishes(options.base, options.name, options.maker, options.cutoff, options.licence, swaps)
    imported = import_constitution(options.names, wishes)
    if out:
        write_atomically(out, imported.text)
    else:
        print(imported.text, end="")
    for line in [*imported.summary, *imported.warnings]:
        print(line, file=sys.stderr)
    if not imported.constitution.licence:
        print("no licence is stated for these texts: --licence TEXT", file=sys.stderr)
    if out:
        print(f"constitution  {out}\nuse it        selfalign run RECIPE --set constitution={out}", file=sys.stderr)
    return 0


def swap(text: str) -> tuple[str, str]:
    """`OLD=NEW` as a pair."""
    from selfalign.errors import UserError

    old, separator, new = text.partition("=")
    if not old or not separator:
        raise UserError(f"--replace {text!r} is not of the form OLD=NEW", '--replace "Vicuna=Dromedary"')
    return old, new


def export_command(name: str, options: argparse.Namespace) -> int:
    """Write the original's files into a new folder, and name them on standard output."""
    from selfalign.constitution.loading import load_constitution
    from selfalign.constitution.original.exporting import export_constitution
    from selfalign.constitution.original.files import REST
    from selfalign.errors import UserError
    from selfalign.records import write_atomically

    if not options.out:
        raise UserError(
            "selfalign constitution export needs a folder", f"selfalign constitution export {name} --out DIR"
        )
    folder = Path(options.out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already", "name a new folder: --out DIR")
    files = export_constitution(load_constitution(name), options.base)
    for file, text in files.items():
        write_atomically(folder / file, text)
        print(folder / file)
    if REST in files:
        print(f"{REST} holds what the original's formats have no place for; import reads it too", file=sys.stderr)
    return 0
