"""selfalign report RUN."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign report`."""
    parser.add_argument("run", help="a run directory, finished or not")


def main(options: argparse.Namespace) -> int:
    """Write RUN/report.html and say where."""
    from selfalign.pipeline.run_directory import open_run
    from selfalign.report.build import build_report

    print(build_report(open_run(Path(options.run)).path))
    return 0
