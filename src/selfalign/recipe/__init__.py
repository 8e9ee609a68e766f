"""The recipe: one YAML file that describes a run. Every option is declared once, meaning and check beside the field."""

from selfalign.recipe.documentation import document
from selfalign.recipe.engine import EngineKind, EngineOptions
from selfalign.recipe.evaluation import EvaluateOptions, GateOptions, RoundsOptions
from selfalign.recipe.loading import load_recipe, validate_recipe
from selfalign.recipe.novelty import NoveltyOptions
from selfalign.recipe.price import PriceOptions
from selfalign.recipe.recipe import Recipe
from selfalign.recipe.section import Section
from selfalign.recipe.sources import SourceFormat, SourceOptions
from selfalign.recipe.stages import (
    AbortOptions,
    ElaborationsOptions,
    InstructionsOptions,
    ResponsesOptions,
    SamplingOptions,
    TopicsOptions,
)
from selfalign.recipe.training import CloneOptions, DecontaminateOptions, LaunchOptions, TrainingOptions

__all__ = [
    "AbortOptions",
    "CloneOptions",
    "DecontaminateOptions",
    "ElaborationsOptions",
    "EngineKind",
    "EngineOptions",
    "EvaluateOptions",
    "GateOptions",
    "InstructionsOptions",
    "LaunchOptions",
    "NoveltyOptions",
    "PriceOptions",
    "Recipe",
    "ResponsesOptions",
    "RoundsOptions",
    "SamplingOptions",
    "Section",
    "SourceFormat",
    "SourceOptions",
    "TopicsOptions",
    "TrainingOptions",
    "document",
    "load_recipe",
    "validate_recipe",
]
