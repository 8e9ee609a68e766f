"""selfalign launch slurm RECIPE: prints the batch script that runs a recipe over Ray on N nodes, or submits it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfalign.cli.launch.script import Job
    from selfalign.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign launch slurm`."""
    parser.add_argument("recipe", help="a YAML file, such as recipes/paper.yaml")
    parser.add_argument("--out", metavar="RUN", help="run directory that all nodes see (default: runs/ and the name)")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="machines (default 1)")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="G", help="GPUs of each (default 0: CPUs only)")
    parser.add_argument("--cpus-per-node", type=int, default=0, metavar="C", help="CPUs of each (default: whole nodes)")
    parser.add_argument("--time", default="24:00:00", help="limit: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S")
    parser.add_argument("--partition", metavar="P", help="SLURM's partition (default: the cluster's)")
    parser.add_argument("--account", metavar="A", help="who is charged")
    parser.add_argument("--qos", metavar="Q", help="quality of service")
    parser.add_argument("--mem", metavar="M", help="memory of each node, such as 200G; 0 is all")
    parser.add_argument(
        "--until", metavar="STAGE", help="stop after this stage (default: all stages, as selfalign run)"
    )
    parser.add_argument("--set", metavar="a.b=c", action="append", default=[], help="override an option of the recipe")
    parser.add_argument(
        "--setup", metavar="SHELL", help='loads the environment, such as "module load cuda; source .venv/bin/activate"'
    )
    parser.add_argument(
        "--sbatch", metavar="OPTION", action="append", default=[], help='any other option, such as "--constraint=a100"'
    )
    parser.add_argument("--submit", action="store_true", help="write RUN/logs/slurm/NAME.sh and give it to sbatch")


def main(options: argparse.Namespace) -> int:
    """Check everything that would fail in the queue hours later, then print or submit."""
    from selfalign.cli.launch.script import batch_script
    from selfalign.cli.launch.submit import check_shell, make_log_folder, submit

    recipe_path = Path(options.recipe)
    out = Path(options.out) if options.out else Path("runs") / recipe_path.stem
    job = plan_job(options, recipe_path, out)
    script = batch_script(job)
    check_shell(script, options.setup)
    if options.submit:
        number = submit(script, out)
        print(f"job     {number}\nqueue   squeue -j {number}\nlog     {job.log(str(number))}")
        print(f"status  selfalign status {out}")
        return 0
    print(script, end="")
    print(make_log_folder(out) or f"its output: {job.log()}; submit it: sbatch FILE, or --submit", file=sys.stderr)
    return 0


def plan_job(options: argparse.Namespace, recipe_path: Path, out: Path) -> Job:
    """What the script says, checked against the recipe and against the run where there is one."""
    from selfalign.cli.launch.cluster import cluster_engine, wanted_replicas
    from selfalign.cli.launch.request import checked_request
    from selfalign.cli.launch.script import Job
    from selfalign.cli.run import last_stage
    from selfalign.constitution.loading import load_constitution
    from selfalign.pipeline.run_directory import RunDirectory
    from selfalign.recipe import load_recipe

    request = checked_request(options)
    recipe = load_recipe(recipe_path, options.set)
    constitution = load_constitution(recipe.constitution, identity_name=recipe.identity_name)
    last = last_stage(options.until, recipe)
    spread = load_recipe(recipe_path, [*options.set, f"engine={cluster_engine(recipe.engine)}"])
    replicas = wanted_replicas(recipe.engine, request.nodes, request.gpus)
    RunDirectory(out).check(spread, constitution)
    if trains_until(last, recipe):
        check_machines(recipe)
    return Job(
        request, recipe_path.resolve(), out.resolve(), options.until, tuple(options.set), recipe.engine, replicas
    )


def trains_until(last: str, recipe: Recipe) -> bool:
    """Whether a training is among the stages up to `last`."""
    from selfalign.pipeline.manifest import stage_names

    names = stage_names(recipe.rounds.count)
    return names.index("engrave") <= names.index(last)


def check_machines(recipe: Recipe) -> None:
    """UserError where the recipe's trainings ask for several machines: in this job they run on its first node.

    Whether the accelerate config holds otherwise is told by the run itself, which imports accelerate.
    """
    import yaml

    from selfalign.errors import UserError

    path = Path(recipe.launch.config_file).expanduser()
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if recipe.launch.config_file else {}
    except (OSError, yaml.YAMLError, ValueError) as fault:
        raise UserError(
            f"launch.config_file: cannot read {path}: {fault}", "accelerate config --config_file F"
        ) from fault
    machines = config.get("num_machines") if isinstance(config, dict) else None
    if isinstance(machines, int) and machines > 1:
        raise UserError(
            f"launch.config_file: {path} trains on {machines} machines, and this job trains on its first node",
            "spread the data stages (--until responses); then train in a job of its own: "
            "srun --ntasks-per-node=GPUS selfalign run RECIPE --out RUN",
        )
