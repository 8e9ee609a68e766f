"""The OpenAI API: chat and raw completions, streamed or whole, and the list of models."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from openai.types import Model
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from selfalign.chat.server.answers import ChatAnswer, TextAnswer
from selfalign.chat.server.logs import note
from selfalign.chat.server.requests import Asked, chat_asked, read_object, text_asked
from selfalign.chat.server.service import End, Event, Piece, Question, Service, Start
from selfalign.chat.server.settings import Settings
from selfalign.chat.server.streams import Events, EventStream, begun, chunks, together, while_connected
from selfalign.engines.batching import TokenChance

if TYPE_CHECKING:
    from fastapi import FastAPI


class Api:
    """The endpoints under /v1."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.created = int(time.time())

    def mount(self, app: FastAPI) -> None:
        """Put the endpoints into an application."""
        from selfalign.chat.server.documents import chat_document, text_document

        app.add_api_route("/v1/models", self.models, methods=["GET"], summary="The models")
        app.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"], summary="One model")
        app.add_api_route(
            "/v1/chat/completions", self.chat, methods=["POST"], summary="Answer", openapi_extra=chat_document()
        )
        app.add_api_route(
            "/v1/completions", self.text, methods=["POST"], summary="Go on from a text", openapi_extra=text_document()
        )

    async def models(self) -> JSONResponse:
        """Every model by name."""
        return JSONResponse({"object": "list", "data": [self._model(model.name) for model in self.service.models]})

    async def model(self, name: str) -> JSONResponse:
        """One model."""
        return JSONResponse(self._model(self.service.model(name).name))

    async def chat(self, request: HttpRequest) -> Response:
        """Go on with a conversation."""
        asked = chat_asked(await read_object(request), self.settings)
        questions = [
            Question(asked.model, asked.messages, asked.sampling, seed_of_choice(asked, choice), asked.top_logprobs)
            for choice in range(asked.choices)
        ]
        note(request, asked, self.settings.log_text)
        return await self._respond(request, asked, [self.service.answer(question) for question in questions])

    async def text(self, request: HttpRequest) -> Response:
        """Go on from raw texts, without a chat format."""
        asked = text_asked(await read_object(request), self.settings)
        answers = [
            self.service.complete(
                asked.model, prompt, asked.sampling, seed_of_choice(asked, choice), asked.top_logprobs
            )
            for prompt in asked.prompts
            for choice in range(asked.choices)
        ]
        note(request, asked, self.settings.log_text)
        return await self._respond(request, asked, answers)

    async def _respond(self, request: HttpRequest, asked: Asked, answers: list[Events]) -> Response:
        events = together(answers) if len(answers) > 1 else answers[0]
        form = ChatAnswer if asked.messages else TextAnswer
        if not asked.stream:
            dropped, ends, chances = await while_connected(request, collected(events, len(answers)))
            whole = form(asked.model, dropped, asked.choices).whole(ends, chances, asked.top_logprobs is not None)
            return JSONResponse(whole)
        dropped, first, rest = await while_connected(request, begun(events))
        body = chunks(form(asked.model, dropped, asked.choices), first, rest, len(answers), asked.include_usage)
        return EventStream(body, rest)

    def _model(self, name: str) -> dict[str, Any]:
        return Model(id=name, created=self.created, object="model", owned_by="selfalign").model_dump(exclude_unset=True)


def seed_of_choice(asked: Asked, choice: int) -> int:
    """Each choice has a seed of its own, the first the request's."""
    return (asked.seed + choice) % 2**63


async def collected(events: Events, choices: int) -> tuple[int, list[End], list[list[TokenChance]]]:
    """(turns left out, the choices' ends in order, their tokens' log-probabilities)."""
    dropped = 0
    ends: dict[int, End] = {}
    chances: list[list[TokenChance]] = [[] for _ in range(choices)]
    async with aclosing(events):
        async for event in events:
            dropped = max(dropped, noted(event, ends, chances))
    return dropped, [ends[choice] for choice in range(choices)], chances


def noted(event: Event, ends: dict[int, End], chances: list[list[TokenChance]]) -> int:
    """Keep what a whole answer needs of an event; the turns that it says were left out."""
    match event:
        case End():
            ends[event.choice] = event
        case Piece():
            chances[event.choice] += event.chances
        case Start():
            return event.dropped_turns
    return 0
