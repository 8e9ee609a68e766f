"""The stages that write data: how they sample, how much they want, and when they give up."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from selfalign.recipe.novelty import NoveltyOptions
from selfalign.recipe.section import Count, Positive, Probability, Section, Temperature, option
from selfalign.recipe.sources import SourceOptions


class SamplingOptions(Section):
    """How to sample."""

    temperature: Temperature = option(1.0, "0 is greedy")
    top_p: Probability = option(0.98, "nucleus sampling mass")
    max_tokens: Positive = option(128, "most new tokens of one completion")


class TopicsOptions(SamplingOptions):
    """Topics brainstormed per instruction type (paper: T 1.0, top-p 0.98)."""

    per_type: Positive = option(8, "topics wanted per type, the human's own included")
    rounds: Positive = option(3, "brainstorming rounds; each sees topics of the ones before")
    hints: Positive = option(10, "topics listed in a prompt")
    max_tokens: Positive = option(64, "most new tokens of one completion")


class InstructionsOptions(SamplingOptions):
    """Topic-guided red-teaming and self-instruct (paper: T 1.0, top-p 0.98, 5 shots)."""

    sources: tuple[SourceOptions, ...] = option(
        (), "instructions from elsewhere: a list of paths and Hub ids, or of sections that say more:"
    )
    topic_guided: Count = option(80, "accepted topic-guided instructions wanted")
    self_instruct: Count = option(80, "accepted self-instruct instructions wanted")
    shots: Annotated[int, Field(ge=1, le=20)] = option(5, "worked examples in a prompt")
    min_words: Positive = option(4, "fewest words of an instruction")
    max_words: Positive = option(150, "most words of an instruction")
    novelty: NoveltyOptions = option(NoveltyOptions(), "against everything accepted, seeds included")

    @model_serializer(mode="wrap")
    def _without_no_sources(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of records stay what they are where there are no sources."""
        data: dict[str, Any] = whole(self)
        return {key: value for key, value in data.items() if key != "sources" or value}


class ResponsesOptions(SamplingOptions):
    """Principle-driven responses (paper app. D.2: T 0.5, top-p 0.9, 256 tokens)."""

    temperature: Temperature = option(0.5, "0 is greedy")
    top_p: Probability = option(0.9, "nucleus sampling mass")
    max_tokens: Positive = option(256, "most new tokens of a reply")
    thought_tokens: Positive = option(96, "most new tokens of an internal thought")
    attempts: Annotated[int, Field(ge=1, le=16)] = option(2, "how often an instruction may be sampled")
    min_words: Positive = option(5, "fewest words of a reply")
    logit_bias: dict[str, float] = option({}, 'added to the first token of a string, such as {"Sorry": -100}')


class ElaborationsOptions(SamplingOptions):
    """Elaborated responses of the engraved model under the verbose style (paper: T 0.3, top-p 0.7, 512 tokens)."""

    temperature: Temperature = option(0.3, "0 is greedy")
    top_p: Probability = option(0.7, "nucleus sampling mass")
    max_tokens: Positive = option(512, "most new tokens of an elaboration")
    min_words: Positive = option(20, "fewest words of an elaboration that was cut at its length limit")
    max_list_items: Positive = option(12, "a longer list is cut there (the original cuts at item 13)")
    ngram_penalties: tuple[float, float, float, float] = option(
        (0.0, 0.0, 1.0, 2.0), "frequency penalties for 1- to 4-grams of the generated part (the original's 0, 0, 1, 2)"
    )


class AbortOptions(Section):
    """When a stage's yield is hopeless."""

    after: Positive = option(200, "judged candidates before the yield is looked at", affects_data=False)
    min_yield: Annotated[float, Field(ge=0, le=1)] = option(0.05, "lowest accepted share", affects_data=False)
