"""selfalign ablate RECIPE."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from selfalign.constitution.schema import Constitution
    from selfalign.pipeline.ablation import Ablation, Change
    from selfalign.records import Record

SAMPLE = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign ablate`."""
    parser.add_argument("recipe", help="a YAML file, such as recipes/demo.yaml")
    part = parser.add_mutually_exclusive_group(required=True)
    part.add_argument("--drop-principle", metavar="N", help="number or name of a principle")
    part.add_argument("--drop-exemplar", metavar="NAME", help="an exemplar; without it the prompt is shorter, too")
    part.add_argument("--drop-type", metavar="NAME", help="an instruction type: its instructions leave the training")
    part.add_argument("--drop-thoughts", action="store_true", help="answer under the principles without thinking first")
    parser.add_argument("--out", metavar="RUN", help="the run to compare with (default: runs/ and the recipe's name)")
    parser.add_argument("--set", metavar="a.b=c", action="append", default=[], help="override an option of the recipe")
    parser.add_argument(
        "--sample", type=int, default=SAMPLE, metavar="N", help=f"instructions to compare on (default {SAMPLE})"
    )
    parser.add_argument("--no-training", action="store_true", help="compare responses only, no held-out loss")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


def main(options: argparse.Namespace) -> int:
    """Make what is missing of the run and of its other side, and print the differences."""
    from selfalign.constitution.loading import load_constitution
    from selfalign.errors import UserError
    from selfalign.evaluation import in_run
    from selfalign.pipeline.ablation import Ablation
    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.pipeline.run_directory import RunDirectory
    from selfalign.pipeline.runner import Runner
    from selfalign.recipe import load_recipe
    from selfalign.report.build import build_report

    if options.sample < 1:
        raise UserError(f"--sample is {options.sample}", "name at least 1, such as --sample 128")
    path = Path(options.recipe)
    recipe = load_recipe(path, options.set)
    constitution = load_constitution(recipe.constitution, identity_name=recipe.identity_name)
    change = asked_for(options, constitution)
    run = RunDirectory(Path(options.out) if options.out else Path("runs") / path.stem)
    ablation = Ablation(recipe, run, constitution, change, options.sample)
    trains = can_train(ablation, not options.no_training)
    Runner(recipe, run, build_report, in_run).run("responses")
    quiet_libraries()
    with run.locked():
        summary = compare(ablation, trains)
    print(json.dumps(summary, ensure_ascii=False) if options.json else in_words(summary))
    return 0


def asked_for(options: argparse.Namespace, constitution: Constitution) -> Change:
    """The change that the options name: they allow exactly one."""
    from selfalign.pipeline.ablation import change_of

    for kind in ("principle", "exemplar", "type"):
        named = getattr(options, f"drop_{kind}")
        if named is not None:
            return change_of(constitution, kind, named)
    return change_of(constitution, "thoughts")


def compare(ablation: Ablation, trains: bool) -> dict[str, Any]:
    """The figures of both sides; `comparison.json` in the ablation's folder holds them, too."""
    from selfalign.evaluation.ablation import WHOLE, Side, compared
    from selfalign.pipeline.progress import say
    from selfalign.records import write_atomically

    sample, change = ablation.sample(), ablation.change
    found = {WHOLE: ablation.whole(sample), change.words: ablation.without(sample)}
    if not change.prompts_differ:
        check_type(change.words, len(found[WHOLE]), len(found[change.words]))
    losses = held_out_losses(ablation, sample, found) if trains else None
    if not trains:
        say("no held-out loss: nothing is trained")
    sides = {
        name: Side(responses, known.principle_names)
        for (name, responses), known in zip(found.items(), (ablation.constitution, change.constitution), strict=True)
    }
    keys = [record.key for record in sample]
    rows = compared(keys, sides if change.prompts_differ else {}, losses, ablation.recipe.seed)
    summary = {
        "run": str(ablation.run.path),
        "change": change.words,
        "folder": str(ablation.folder),
        "sample": keys,
        "responses": {name: len(responses) for name, responses in found.items()},
        "answered_by_both": len(set.intersection(*(set(responses) for responses in found.values()))),
        "rows": [row.to_dict() for row in rows],
    }
    write_atomically(ablation.folder / "comparison.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    return summary


def can_train(ablation: Ablation, wanted: bool) -> bool:
    """Whether there is a loss to compare; without one, leaving a type out would show nothing, which is a UserError."""
    from selfalign.errors import UserError

    trains = wanted and ablation.recipe.engine.has_weights
    if not trains and not ablation.change.prompts_differ:
        raise UserError(
            f"{ablation.change.words}: a type changes no response, only what is trained on, and nothing is trained",
            "leave --no-training out, or name an engine with weights",
        )
    return trains


def check_type(words: str, whole: int, without: int) -> None:
    """UserError where both sides would learn the same `whole` responses, or one of them none."""
    from selfalign.errors import UserError

    if without in (0, whole):
        which = "all" if whole and not without else "none"
        raise UserError(
            f"{words}: {which} of the {whole} responses of the sample are of that type, so there is nothing to compare",
            "raise --sample, or name another type",
        )


def held_out_losses(
    ablation: Ablation, sample: Sequence[Record], sides: Mapping[str, Mapping[str, Record]]
) -> dict[str, dict[str, float]] | None:
    """Side -> validation row -> loss; None where the sample is too small to hold a row out."""
    from selfalign.pipeline.ablation import in_order
    from selfalign.pipeline.ablation_loss import losses, rows_without, whole_rows
    from selfalign.pipeline.progress import say

    recipe, constitution = ablation.recipe, ablation.constitution
    whole, without = (in_order(sample, responses) for responses in sides.values())
    rows = whole_rows(recipe, constitution, whole)
    if not rows.validation:
        say(f"no held-out loss: {len(whole)} responses are too few to hold one out; raise --sample")
        return None
    others = rows_without(recipe, constitution, whole, without)
    folders = ablation.run.path / "ablations" / f"whole-{len(sample)}", ablation.folder
    return {
        name: losses(recipe, constitution, dataset, folder)
        for name, dataset, folder in zip(sides, (rows, others), folders, strict=True)
    }


def in_words(summary: dict[str, Any]) -> str:
    """The tables, and how to read the rest."""
    from selfalign.evaluation.comparison_table import comparison_table

    counts = ", ".join(f"{name} {count}" for name, count in summary["responses"].items())
    head = (
        f"{summary['run']}, {summary['change']}: {len(summary['sample'])} instructions of its training part; "
        f"responses: {counts}, on both sides {summary['answered_by_both']}"
    )
    return "\n\n".join([head, comparison_table(summary["rows"]), f"more in {summary['folder']}"])
