"""The constitution: all that a human wrote. Data, never code (DESIGN.md section 2)."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

ONE_LINE = r"^[^\n]+$"
AT_MOST_ONE_LINE = r"^[^\n]*$"
CITABLE = r"^[^\n()]+$"


def trim(text: str) -> str:
    """Without blank lines around it; the indentation of its first line stays, since a seed's input may be code."""
    return text.strip("\n").rstrip()


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=ONE_LINE)]
CitableName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=CITABLE)]
Block = Annotated[str, AfterValidator(trim)]
LineOrNothing = Annotated[str, StringConstraints(strip_whitespace=True, pattern=AT_MOST_ONE_LINE)]

StyleName = Literal["standard", "concise", "verbose"]


class Part(BaseModel):
    """Base of every part: immutable, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Principle(Part):
    """A numbered, named rule. Cited as `7 (candor)`."""

    number: Annotated[int, Field(ge=1, le=999)]
    name: CitableName
    text: Line


class Turn(Part):
    """One exchange of an exemplar: user turn, internal thought (one line that cites principles), response."""

    user: Text
    thought: Line
    response: Text


class Exemplar(Part):
    """A worked conversation."""

    name: Line
    turns: Annotated[tuple[Turn, ...], Field(min_length=1)]


class Seed(Part):
    """A human-written instruction, with the input it works on where it needs one."""

    instruction: Line
    input: Block = ""
    classification: bool = False


class TopicSeed(Part):
    """The one worked (topic, instruction) pair of an instruction type."""

    topic: Line
    instruction: Line


class InstructionType(Part):
    """A kind of question; `name` completes "questions that require ..."."""

    name: Line
    seed: TopicSeed


class IdentityPairs(Part):
    """Ways to ask one thing about the assistant, and answers that fit every one of them.

    Question i goes with answer i modulo the number of answers (`pairing: in_turn`), or with every one (`every`).
    """

    questions: Annotated[tuple[Line, ...], Field(min_length=1)]
    answers: Annotated[tuple[Text, ...], Field(min_length=1)]
    pairing: Literal["in_turn", "every"] = "in_turn"

    @model_serializer(mode="wrap")
    def _without_default(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The usual pairing is left out: constitutions that do not name it keep their hash."""
        data: dict[str, Any] = whole(self)
        return {key: value for key, value in data.items() if (key, value) != ("pairing", "in_turn")}

    def expand(self) -> list[tuple[str, str]]:
        """The (question, answer) pairs: one per question, or all."""
        if self.pairing == "every":
            return [(question, answer) for question in self.questions for answer in self.answers]
        return [(question, self.answers[i % len(self.answers)]) for i, question in enumerate(self.questions)]


class Identity(Part):
    """Who the assistant is. Every other text may use {{ name }}, {{ maker }} and {{ cutoff }}."""

    name: Line
    maker: Line
    cutoff: Line
    pairs: tuple[IdentityPairs, ...] = ()


class Styles(Part):
    """System texts of the chat format."""

    standard: Text
    concise: Text
    verbose: Text


class Templates(Part):
    """Prose that heads each prompt; lists, shots and delimiters are the renderer's.

    `thought_opening` begins every internal thought: the exemplars' thoughts start with it, and so does the prompt where
    a thought is asked for.
    """

    topics: Text
    topic_guided: Text
    self_instruct: Text
    principles: Text
    exemplars: Text
    thought_opening: LineOrNothing = ""


class Constitution(Part):
    """Everything a human wrote for a run, with all templates resolved but those that a stage fills ({{ type }}).

    `variables` are texts that any other text but a seed may use by their key, as {{ key }}.
    """

    name: Line
    description: Block = ""
    licence: Block = ""
    variables: dict[str, Text] = {}
    identity: Identity
    principles: Annotated[tuple[Principle, ...], Field(min_length=1)]
    exemplars: Annotated[tuple[Exemplar, ...], Field(min_length=1)]
    instruction_types: Annotated[tuple[InstructionType, ...], Field(min_length=1)]
    styles: Styles
    templates: Templates
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]

    @cached_property
    def principle_names(self) -> dict[int, str]:
        """Number -> name."""
        return {principle.number: principle.name for principle in self.principles}

    @cached_property
    def identity_pairs(self) -> list[tuple[str, str]]:
        """All (question, answer) pairs about the identity."""
        return [pair for group in self.identity.pairs for pair in group.expand()]

    @cached_property
    def exemplar_texts(self) -> list[str]:
        """Every user turn, thought and response of the exemplars: what no answer may copy."""
        turns = [turn for exemplar in self.exemplars for turn in exemplar.turns]
        return [text for turn in turns for text in (turn.user, turn.thought, turn.response)]

    def style(self, name: StyleName) -> str:
        """The system text of a style."""
        text: str = getattr(self.styles, name)
        return text
