"""A conversation with the models of a run, loaded here: the server's service without the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TYPE_CHECKING

from selfalign.chat.source import CUT, Said, dropped
from selfalign.engines.base import Sampling
from selfalign.records import Message, content_hash, seed_of

if TYPE_CHECKING:
    from selfalign.chat.server.service import Event, Service


class Local:
    """A source that is a service. Between two pieces nothing of it runs but the service's own thread."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.runner = asyncio.Runner()
        service.start()

    def models(self) -> Sequence[str]:
        """The service's, the one that it names as default first."""
        names = [model.name for model in self.service.models]
        return sorted(names, key=lambda name: name != self.service.default_model)

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> Generator[Said, None, None]:
        """What the service says. Ctrl-C is raised here, after the service has let go of the answer."""
        from selfalign.chat.server.service import Question

        own_seed = seed_of(content_hash(["chat", seed, list(messages)]))
        events = self.service.answer(Question(model, messages, sampling, own_seed))
        try:
            while (event := self.runner.run(next_of(events))) is not None:
                yield from said(event)
        finally:
            self.runner.run(events.aclose())

    def close(self) -> None:
        """Free the models."""
        self.runner.close()
        self.service.close()


async def next_of(events: AsyncGenerator[Event, None]) -> Event | None:
    """The next event; None after the last."""
    return await anext(events, None)


def said(event: Event) -> list[Said]:
    """What of an event is shown."""
    from selfalign.chat.server.service import End, Piece, Start

    if isinstance(event, Start):
        return [dropped(event.dropped_turns)] if event.dropped_turns else []
    if isinstance(event, Piece):
        thought = [Said(event.thought, "thought")] if event.thought else []
        return thought + ([Said(event.text)] if event.text else [])
    return [CUT] if isinstance(event, End) and event.finish_reason == "length" else []
