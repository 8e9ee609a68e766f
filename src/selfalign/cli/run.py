"""selfalign run RECIPE."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfalign.recipe import Recipe, document, load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign run`."""
    parser.add_argument("recipe", nargs="?", help="a YAML file, such as recipes/demo.yaml")
    parser.add_argument("--out", metavar="RUN", help="run directory (default: runs/ and the recipe's name)")
    parser.add_argument("--set", metavar="a.b=c", action="append", default=[], help="override an option of the recipe")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--dry-run", action="store_true", help="estimate counts, tokens, seconds and disk; run nothing")
    parser.add_argument("--options", action="store_true", help="print every option of a recipe with its meaning")


def main(options: argparse.Namespace) -> int:
    """Run, resume, or estimate."""
    from selfalign.errors import UserError

    if options.options:
        print(document())
        return 0
    if not options.recipe:
        raise UserError("selfalign run needs a recipe", "selfalign run recipes/demo.yaml")
    path = Path(options.recipe)
    out = Path(options.out) if options.out else Path("runs") / path.stem
    recipe = load_recipe(path, options.set)
    if options.dry_run:
        from selfalign.pipeline.estimate import estimate, format_estimate

        print(format_estimate(estimate(recipe, out)))
        return 0
    return execute(recipe, out, options.until)


def execute(recipe: Recipe, out: Path, until: str | None) -> int:
    """All stages, then where the results are."""
    from selfalign.errors import UserError
    from selfalign.pipeline.run_directory import STAGES, RunDirectory
    from selfalign.pipeline.runner import Runner
    from selfalign.report.build import build_report

    if until is not None and until not in STAGES:
        raise UserError(f"--until {until!r} is no stage; stages are {', '.join(STAGES)}")
    run = RunDirectory(out)
    Runner(recipe, run, build_report).run(until or STAGES[-1])
    if run.stages["report"].state == "done":
        print(f"report  {out / 'report.html'}\nmodel   {out / 'models' / 'final'}\ntalk    selfalign chat {out}")
    return 0
