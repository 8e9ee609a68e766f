"""What a terminal talks to: one model or several under their names, here or behind a server."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal, NamedTuple, Protocol

from selfalign.engines.base import Engine, Request, Sampling
from selfalign.errors import UserError
from selfalign.records import Message, content_hash, seed_of

Part = Literal["thought", "answer", "notice"]
"""`thought` comes before the answer and cites principles. A `notice` says what was done: before the answer, that the
oldest turns were dropped; after it, that it was cut at its length limit."""


class Said(NamedTuple):
    """A stretch of what comes back for a turn of the user."""

    text: str
    part: Part = "answer"


class Source(Protocol):
    """What answers."""

    def models(self) -> Sequence[str]:
        """The names that may be asked, the one to start with first."""
        ...

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> Generator[Said, None, None]:
        """The pieces of `model`'s answer to `messages`, as they come; closing the iterator frees the model at once.

        `messages` end with the user's turn and may begin with a system message. Raises UserError where they cannot be
        taken, EngineFailed where the model is lost.
        """
        ...


class Renders(Protocol):
    """The part of a chat format that a conversation needs."""

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text of `messages` that the model goes on from."""
        ...


class OneModel:
    """A source of one model on an engine of its own."""

    def __init__(self, name: str, engine: Engine, chat_format: Renders) -> None:
        self.name = name
        self.engine = engine
        self.chat_format = chat_format

    def models(self) -> Sequence[str]:
        """Its name."""
        return (self.name,)

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> Generator[Said, None, None]:
        """The engine's pieces."""
        for piece in self.engine.stream(self.request(messages, sampling, seed)):
            yield Said(piece)

    def request(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Request:
        """What the engine is asked; all that was said goes into the seed."""
        key = content_hash(["chat", seed, list(messages)])
        prompt = self.chat_format.render(messages, add_generation_prompt=True)
        return Request(key, prompt, sampling=sampling, seed=seed_of(key), chat_format=True)


def dropped(turns: int) -> Said:
    """That the conversation outgrew what the model reads."""
    return Said(f"the conversation is longer than the model reads: its oldest {turns} messages were left out", "notice")


CUT = Said("the answer was cut at its length limit: --max-tokens", "notice")


def must_be_known(model: str, models: Sequence[str]) -> None:
    """A UserError with the known names where `model` is none of them."""
    if model not in models:
        raise UserError(f"no model is named {model!r}", f"use one of: {', '.join(models)}")
