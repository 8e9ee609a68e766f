"""A conversation with a model: what is said, and by whom. Knows neither terminal nor server."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Protocol

from selfalign.engines.base import Engine, Request, Sampling
from selfalign.errors import UserError
from selfalign.records import Message, content_hash, seed_of, write_atomically


class Renders(Protocol):
    """The part of a chat format that a conversation needs."""

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text of `messages` that the model goes on from."""
        ...


class ChatSession:
    """The turns so far, and the engine that answers them. `messages` starts and ends between two turns of the user.

    The same engine, sampling, seed and turns give the same answer: the seed of a turn derives from `seed` and all
    that was said.
    """

    def __init__(self, engine: Engine, chat_format: Renders, sampling: Sampling, seed: int) -> None:
        self.engine = engine
        self.chat_format = chat_format
        self.sampling = sampling
        self.seed = seed
        self.messages: list[Message] = []

    def ask(self, text: str) -> Generator[str, None, None]:
        """Say `text` and yield the pieces of the answer; both turns are kept when the answer ends.

        Closing the iterator, or Ctrl-C, stops the answer: what there is of it is kept as it stands, and where there is
        nothing yet the user's turn is taken back. So it is where the engine fails (a UserError where the conversation
        has grown too long). Keep the iterator in a variable and close it, since a turn ends no sooner than that.
        """
        asked: list[Message] = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        try:
            for piece in self.engine.stream(self.request(asked)):
                pieces.append(piece)
                yield piece
        except (GeneratorExit, KeyboardInterrupt):
            if pieces:
                self.messages = answered(asked, pieces)
            raise
        self.messages = answered(asked, pieces)

    def request(self, messages: Sequence[Message]) -> Request:
        """What the engine is asked for the next turn."""
        key = content_hash(["chat", self.seed, list(messages)])
        prompt = self.chat_format.render(messages, add_generation_prompt=True)
        return Request(key=key, prompt=prompt, sampling=self.sampling, seed=seed_of(key), chat_format=True)

    def reset(self) -> None:
        """Forget everything said."""
        self.messages = []

    def save(self, path: Path) -> None:
        """Write `{"messages": [...]}`, the whole file or none of it."""
        if path.is_dir():
            raise UserError(f"{path} is a directory", f"/save {path / 'chat.json'}")
        try:
            write_atomically(path, json.dumps({"messages": self.messages}, ensure_ascii=False, indent=2) + "\n")
        except OSError as fault:
            raise UserError(f"cannot write {path}: {fault.strerror}", "name a path that can be written") from fault


def answered(asked: Sequence[Message], pieces: Sequence[str]) -> list[Message]:
    """The conversation with the assistant's turn."""
    return [*asked, {"role": "assistant", "content": "".join(pieces)}]
