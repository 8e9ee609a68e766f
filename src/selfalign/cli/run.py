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
    parser.add_argument(
        "--keep-going", action="store_true", help="go on with a model that failed its gate (gate.on_failure=continue)"
    )
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
    overrides = [*options.set, *(["gate.on_failure=continue"] if options.keep_going else [])]
    return (estimate_only if options.dry_run else execute)(path, overrides, out, options.until)


def estimate_only(path: Path, overrides: list[str], out: Path, until: str | None) -> int:
    """What a run up to `until` would take. A UserError where it would be refused for what lies in `out`."""
    from selfalign.constitution.loading import load_constitution
    from selfalign.pipeline.estimate import estimate, format_estimate
    from selfalign.pipeline.run_directory import RunDirectory

    recipe = load_recipe(path, overrides)
    last = last_stage(until, recipe)
    RunDirectory(out).check(recipe, load_constitution(recipe.constitution, identity_name=recipe.identity_name))
    print(format_estimate(estimate(recipe, out, last), recipe.price))
    return 0


def last_stage(until: str | None, recipe: Recipe) -> str:
    """The stage that `--until` names, or the last of all; any other name is a UserError."""
    from selfalign.errors import UserError
    from selfalign.pipeline.manifest import stage_names

    stages = stage_names(recipe.rounds.count)
    if until is not None and until not in stages:
        raise UserError(f"--until {until!r} is no stage; stages are {', '.join(stages)}")
    return until or stages[-1]


def execute(path: Path, overrides: list[str], out: Path, until: str | None) -> int:
    """All stages up to `until`, then where the results are.

    Where torchrun or SLURM started several of this process, rank 0 does so and the others join each training.
    """
    from selfalign.evaluation import in_run
    from selfalign.pipeline.run_directory import RunDirectory
    from selfalign.pipeline.runner import Runner
    from selfalign.report.build import build_report
    from selfalign.training.ranks import launched
    from selfalign.training.session import follow, leading
    from selfalign.training.strategies import check_launch

    rank = launched()
    if rank and rank.rank:
        return follow(out, rank)
    with leading(out, rank) as leader:
        recipe = load_recipe(path, overrides)
        last = last_stage(until, recipe)
        check_launch(recipe.launch)
        run = RunDirectory(out)
        Runner(recipe, run, build_report, in_run, leader).run(last)
    if run.stages["report"].state == "done":
        print(results(out))
    return 0


def results(out: Path) -> str:
    """Where the report is, and the model where there is one: the scripted engine trains none."""
    lines = [f"report  {out / 'report.html'}"]
    model = out / "models" / "final"
    if model.is_dir():
        lines += [f"model   {model}", f"talk    selfalign chat {out}"]
    return "\n".join(lines)
