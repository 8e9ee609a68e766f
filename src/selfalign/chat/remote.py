"""A conversation with a server: what `selfalign chat http://host:8000` talks through. Any OpenAI server will do."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from selfalign.chat.source import CUT, Said, dropped
from selfalign.engines.base import Sampling
from selfalign.errors import UserError
from selfalign.records import Message

KEYS = ("SELFALIGN_API_KEY", "OPENAI_API_KEY")
"""Environment variables that a key is taken from, the first one first."""


class Remote:
    """A server at `url`, with or without `/v1`."""

    def __init__(self, url: str, api_key: str = "") -> None:
        try:
            import openai
        except ModuleNotFoundError as fault:
            raise UserError("the package openai is not installed", "pip install 'selfalign[serve]'") from fault
        self.url = url.rstrip("/").removesuffix("/v1")
        key = api_key or next(filter(None, map(os.environ.get, KEYS)), "") or "none"
        self._faults: Any = openai.OpenAIError
        self._client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, timeout=600.0)

    def models(self) -> list[str]:
        """The names of its models; the last stage of a run first, to start with."""
        try:
            names = [model.id for model in self._client.models.list()]
        except self._faults as fault:
            raise self._told(fault) from fault
        if not names:
            raise UserError(f"{self.url}: it serves no model", "selfalign serve RUN", 1)
        return sorted(names, key=lambda name: name != "final")

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, seed: int = 0
    ) -> Generator[Said, None, None]:
        """The pieces of an answer. Closing the iterator stops it. UserError for whatever goes wrong."""
        asked: dict[str, Any] = {"model": model, "messages": list(messages), "stream": True, "seed": seed}
        asked |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
        if sampling.stop:
            asked["stop"] = list(sampling.stop)
        try:
            with self._client.chat.completions.create(**asked) as answer:
                for chunk in answer:
                    yield from said(chunk)
        except self._faults as fault:
            raise self._told(fault) from fault

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _told(self, fault: Exception) -> UserError:
        """A fault of the client's as one line: what the server said, or that it is not there."""
        body = getattr(fault, "body", None)
        said = body.get("message") if isinstance(body, dict) else None
        if said:
            return UserError(f"{self.url}: {said}", exit_code=1)
        return UserError(f"{self.url}: {fault}", f"start it: selfalign serve RUN, or check {self.url}/healthz", 1)


def said(chunk: Any) -> Iterator[Said]:
    """What a chunk of the stream holds; `dropped_turns` and `reasoning_content` where the server has them."""
    if turns := getattr(chunk, "dropped_turns", 0):
        yield dropped(turns)
    for choice in chunk.choices[:1]:
        if thought := getattr(choice.delta, "reasoning_content", ""):
            yield Said(thought, "thought")
        if choice.delta.content:
            yield Said(choice.delta.content)
        if choice.finish_reason == "length":
            yield CUT
