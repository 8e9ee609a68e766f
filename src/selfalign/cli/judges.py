"""Which model judges answers: the one named, or the base under the adapter that is evaluated."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfalign.engines.base import Engine


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say who judges, and where it runs."""
    parser.add_argument("--judge", metavar="MODEL", help="judges answers (default: the base under the adapter)")
    parser.add_argument("--judge-url", metavar="URL", help="the judge is on an OpenAI-compatible server there")


def judge_of(options: argparse.Namespace, names: Sequence[str]) -> str:
    """MODEL of the judge, empty where the model itself judges or none of the tasks `names` needs one.

    A model never wins against itself: `pairwise` without a second model is a UserError.
    """
    from selfalign.errors import UserError
    from selfalign.evaluation.task import TASKS

    if options.judge_url and not options.judge:
        raise UserError("--judge-url says where the judge is, and not which model it is", "add --judge MODEL")
    if not any(name in TASKS and TASKS[name].judged for name in names):
        return ""
    judge: str = options.judge or (own_base(options.model) if has_weights(options) else "")
    if "pairwise" in names and (not judge or is_itself(options, judge)):
        why = "the judge is that very model" if judge else "it has no base"
        raise UserError(
            f"pairwise: there is no second model to hold {options.model} against, since {why}",
            f"selfalign eval {options.model} --tasks pairwise --judge {'OTHER_' * bool(judge)}MODEL",
        )
    return judge


def own_base(model: str) -> str:
    """What a run began with, or what an adapter stands on; empty for anything else."""
    from selfalign.evaluation.variants import base_of, base_under, is_run

    return base_of(Path(model)) if is_run(model) else base_under(model)


def has_weights(options: argparse.Namespace) -> bool:
    """Whether models are told apart by their weights, not by their names."""
    return options.engine in ("embedded", "vllm")


def is_itself(options: argparse.Namespace, judge: str) -> bool:
    """Whether the judge is the evaluated model; one on a server of its own is taken for another."""
    from selfalign.evaluation.variants import weights_of

    if options.judge_url:
        return False
    return weights_of(judge) == weights_of(options.model) if has_weights(options) else judge == options.model


def open_judge(options: argparse.Namespace, judge: str) -> Engine:
    """The engine of the judge: the server at `--judge-url`, or else of the kind that the evaluated model runs on."""
    from selfalign.pipeline.engines import open_engine
    from selfalign.recipe import EngineOptions

    given = {"kind": options.engine, "dtype": options.dtype, "script": options.script}
    if options.judge_url:
        given |= {"kind": "openai", "base_url": options.judge_url}
    elif options.base_url:
        given["base_url"] = options.base_url
    return open_engine(EngineOptions.model_validate(given), judge)
