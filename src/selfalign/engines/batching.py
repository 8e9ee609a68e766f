"""What a server drives: requests that join and leave a running batch between two steps (continuous batching)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.base import Completion, Request
from selfalign.errors import EngineFailed


class Ticket(NamedTuple):
    """A request, the adapter that it runs under (empty: the base), and how many likeliest tokens it wants to see.

    `top_logprobs` None asks for no log-probabilities at all. `request.key` must be nobody else's at the time.
    """

    request: Request
    adapter: str = ""
    top_logprobs: int | None = None


class TokenChance(NamedTuple):
    """A token as text, its natural log-probability, and the likeliest tokens of its place."""

    token: str
    log_probability: float
    likeliest: tuple[tuple[str, float], ...]


class Progress(NamedTuple):
    """What a step brought to a request: text that is final now (often none), and its completion after the last."""

    key: str
    text: str
    completion: Completion | None = None
    chances: Sequence[TokenChance] = ()


class BatchFailed(EngineFailed):
    """A step failed under the requests `keys`, which are given up; the others go on."""

    def __init__(self, message: str, hint: str, keys: tuple[str, ...]) -> None:
        super().__init__(message, hint)
        self.keys = keys


class Batcher(Protocol):
    """One set of weights under several adapters. All but `count` is called by one thread."""

    context_length: int
    adapters: tuple[str, ...]

    @property
    def is_busy(self) -> bool:
        """Whether a step would do anything."""
        ...

    def chat_format(self, system: str) -> ChatFormat:
        """The chat format in the model's special tokens."""
        ...

    def count(self, text: str, chat_format: bool, prefix: str = "") -> int:
        """Tokens that a prompt takes, by any thread."""
        ...

    def add(self, ticket: Ticket) -> None:
        """Take a request in. UserError, before anything is written, where it cannot be taken."""
        ...

    def drop(self, key: str) -> None:
        """Give a request up; its slot is free for the next step. Unknown keys are let be. Raises BatchFailed alone."""
        ...

    def step(self) -> list[Progress]:
        """One token more for some of the requests. Raises BatchFailed."""
        ...

    def probe(self) -> None:
        """Write one token for nobody. Raises what a step would raise where the engine cannot work."""
        ...

    def close(self) -> None:
        """Free all memory."""
        ...
