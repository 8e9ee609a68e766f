"""selfalign report RUN [RUN]."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign report`."""
    parser.add_argument("run", help="a run directory, finished or not")
    parser.add_argument("other", nargs="?", help="another run, to be held against the first one")
    parser.add_argument("--output", metavar="FILE", help="where to write the page (default: in the first run)")


def main(options: argparse.Namespace) -> int:
    """Write RUN/report.html, or the comparison of two runs, and say where."""
    from selfalign.pipeline.board import read_progress
    from selfalign.pipeline.run_directory import open_run
    from selfalign.report.build import build_report
    from selfalign.report.versus import write_comparison

    run, output = open_run(Path(options.run)).path, Path(options.output) if options.output else None
    if options.other is None:
        told = read_progress(run)
        print(build_report(run, output, is_running=told is None or told["state"] == "running"))
    else:
        print(write_comparison(run, open_run(Path(options.other)).path, output))
    return 0
