"""selfalign release RUN --to DIR|hub:OWNER/NAME."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfalign.release.facts import Facts, Wishes
    from selfalign.release.release import Release
    from selfalign.release.upload import Repositories


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign release`."""
    parser.add_argument("run", help="a finished run; of one that stopped before its last training, the data set alone")
    parser.add_argument("--to", required=True, metavar="DIR|hub:OWNER/NAME", help="a new directory, or the Hub")
    parser.add_argument("--merged", action="store_true", help="whole weights, with the adapter beside them in adapter/")
    parser.add_argument("--no-proof", action="store_true", help="with --merged: do not compare the log-probabilities")
    parser.add_argument("--base-model", metavar="ID", default="", help="the base's Hub id, where the recipe has a path")
    parser.add_argument(
        "--base-license", metavar="ID|NAME=URL", default="", help="where the base's card is not at hand"
    )
    parser.add_argument("--private", action="store_true", help="make new Hub repositories private")
    parser.add_argument(
        "--dry-run", action="store_true", help="show every file with its size and source; write nothing"
    )
    parser.add_argument("--yes", action="store_true", help="upload; without it nothing leaves this machine")


def main(options: argparse.Namespace) -> int:
    """Show, write, or upload."""
    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.release.facts import Wishes
    from selfalign.release.release import plan_release, write_release
    from selfalign.release.upload import TARGET, destinations, repositories

    repos = repositories(options.to) if options.to.startswith(TARGET) else None
    wishes = Wishes(
        options.merged, options.base_model, options.base_license, *(repos or ("", "")), not options.no_proof
    )
    release = plan_release(facts_of(Path(options.run), wishes))
    warn(release)
    if options.merged and not options.dry_run:
        quiet_libraries()
    if options.dry_run:
        print_files(release, "nothing was written (--dry-run)")
    elif repos is None:
        say_proof(write_release(release, Path(options.to)))
        print_files(release, f"written to {options.to}; look at its README.md files before you publish it")
    elif options.yes:
        print(*send(release, repos, options.private), sep="\n")
    else:
        places = " and ".join(destinations(release, repos).values())
        print_files(release, f"nothing was uploaded; to upload to {places}:\n  {command(options)} --yes")
    return 0


def facts_of(path: Path, wishes: Wishes) -> Facts:
    """What the run tells; of one without a model, also the rows that its next training would learn."""
    from selfalign.evaluation.benchmark_texts import benchmark_texts
    from selfalign.pipeline.decontaminate import sieve_of
    from selfalign.pipeline.run_directory import open_run
    from selfalign.pipeline.training import next_training
    from selfalign.release.facts import Untrained, gather

    facts = gather(path, wishes)
    if facts.kind:
        return facts
    sieve = sieve_of(facts.recipe.decontaminate, benchmark_texts)
    ahead = next_training(open_run(path), facts.recipe, facts.constitution, sieve)
    if ahead is None:
        return facts
    splits = {name: [row.to_dict() for row in rows] for name, rows in ahead.dataset._asdict().items()}
    found = ahead.found.to_dict() if ahead.found else None
    return facts.with_untrained(Untrained(ahead.stage.base, str(ahead.stage), splits, found))


def warn(release: Release) -> None:
    """A model that its gate failed is released with a mark on its card; where there is none yet, the data set alone."""
    from selfalign.pipeline.progress import say
    from selfalign.release.facts import command_to_go_on

    if not release.facts.kind:
        run = release.facts.run
        say(f"{run.path} has no final model yet, so this is the data set alone; a model: {command_to_go_on(run)}")
    gate = release.facts.gate
    if gate and not gate.passed:
        say(f"this model failed its gate ({gate.reason or 'no reason is noted'}): its card says so first")


def say_proof(proved: str) -> None:
    """The line that a merge ends with; an adapter's files are copies and need none."""
    from selfalign.pipeline.progress import say

    if proved:
        say(proved)


def print_files(release: Release, end: str) -> None:
    """The table of files, and what happened."""
    from selfalign.release.files import table

    print(f"{table(release.files)}\n{end}")


def command(options: argparse.Namespace) -> str:
    """The same command, to be copied."""
    words = ["selfalign", "release", options.run, "--to", options.to]
    words += ["--merged"] * options.merged + ["--private"] * options.private + ["--no-proof"] * options.no_proof
    words += ["--base-model", options.base_model] if options.base_model else []
    words += ["--base-license", options.base_license] if options.base_license else []
    return shlex.join(words)


def send(release: Release, repos: Repositories, private: bool) -> list[str]:
    """Write to a temporary folder, upload from there."""
    from selfalign.release.release import write_release
    from selfalign.release.upload import upload

    with tempfile.TemporaryDirectory() as scratch:
        say_proof(write_release(release, Path(scratch) / "release"))
        return upload(release, Path(scratch) / "release", repos, private)
