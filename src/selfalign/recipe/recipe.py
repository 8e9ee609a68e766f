"""The recipe itself: its sections and what is said of the whole run."""

from __future__ import annotations

from selfalign.recipe.engine import EngineOptions
from selfalign.recipe.evaluation import EvaluateOptions, GateOptions, RoundsOptions
from selfalign.recipe.price import PriceOptions
from selfalign.recipe.section import Positive, Section, Seed, option
from selfalign.recipe.stages import (
    AbortOptions,
    ElaborationsOptions,
    InstructionsOptions,
    ResponsesOptions,
    TopicsOptions,
)
from selfalign.recipe.training import CloneOptions, DecontaminateOptions, LaunchOptions, TrainingOptions


class Recipe(Section):
    """A whole run."""

    base_model: str = option("smollm2-135m", "Hub id, model directory, GGUF file, or smollm2-135m (embedded default)")
    constitution: str = option("dromedary", "a built-in constitution or the path of a YAML file")
    identity_name: str = option("", "the assistant's name; empty keeps the constitution's")
    seed: Seed = option(0, "changes every sample of the run")
    chunk_size: Positive = option(64, "jobs driven together: the unit of saving and of resuming")
    engine: EngineOptions = option(EngineOptions(), "what generates text")
    topics: TopicsOptions = option(TopicsOptions(), "stage topics")
    instructions: InstructionsOptions = option(InstructionsOptions(), "stage instructions")
    responses: ResponsesOptions = option(ResponsesOptions(), "stage responses")
    decontaminate: DecontaminateOptions = option(DecontaminateOptions(), "before stages engrave and clone")
    engrave: TrainingOptions = option(TrainingOptions(), "stage engrave")
    elaborations: ElaborationsOptions = option(ElaborationsOptions(), "stage elaborations")
    clone: CloneOptions = option(CloneOptions(), "stage clone")
    evaluate: EvaluateOptions = option(EvaluateOptions(), "stage evaluate")
    launch: LaunchOptions = option(LaunchOptions(), "processes of a training", affects_data=False)
    gate: GateOptions = option(GateOptions(), "after stages engrave and clone", affects_data=False)
    rounds: RoundsOptions = option(RoundsOptions(), "how often responses and engrave are repeated")
    abort: AbortOptions = option(AbortOptions(), "early abort of a stage", affects_data=False)
    price: PriceOptions = option(PriceOptions(), "what tokens and time are charged", affects_data=False)
