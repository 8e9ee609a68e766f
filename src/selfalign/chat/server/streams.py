"""Answers as server-sent events, several choices of a request merged, and requests whose client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from selfalign.chat.server.answers import ChatAnswer, TextAnswer
from selfalign.chat.server.errors import error_body
from selfalign.chat.server.service import End, Event, Piece, Start
from selfalign.errors import EngineFailed, UserError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Events = AsyncGenerator[Event, None]

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""A proxy shall pass events on as they come."""


class EventStream(StreamingResponse):
    """Sends events until their end or the client's. Then whoever wrote them is told at once, not when memory is tidied:

    a response that is cancelled while it sends leaves its generator where it stands, and one that is cancelled before
    it sends never begins it.
    """

    def __init__(self, body: AsyncGenerator[str, None], events: Events) -> None:
        super().__init__(body, media_type="text/event-stream", headers=HEADERS)
        self.generators: tuple[AsyncGenerator[Any, None], ...] = (body, events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for one in self.generators:
                await one.aclose()


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def together(answers: Sequence[Events]) -> Events:
    """The events of several answers as they come, each with the number of its choice."""
    queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

    async def pump(choice: int, answer: Events) -> None:
        try:
            async with aclosing(answer):
                async for event in answer:
                    queue.put_nowait(event._replace(choice=choice))
            queue.put_nowait(None)
        except Exception as fault:
            queue.put_nowait(fault)

    tasks = [asyncio.create_task(pump(choice, answer)) for choice, answer in enumerate(answers)]
    try:
        running = len(tasks)
        while running:
            event = await queue.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def begun(events: Events) -> tuple[int, list[Event], Events]:
    """(turns left out, the events up to the first that says something, the rest).

    What is wrong with a request shows before its first text: it can still be answered with a status.
    """
    dropped, first = 0, []
    try:
        async for event in events:
            first.append(event)
            if not isinstance(event, Start):
                break
            dropped = max(dropped, event.dropped_turns)
    except BaseException:
        await events.aclose()
        raise
    return dropped, first, events


async def chunks(
    answer: ChatAnswer | TextAnswer, first: Sequence[Event], rest: Events, choices: int, include_usage: bool
) -> AsyncGenerator[str, None]:
    """The text of all server-sent events. A fault is the last of them."""
    ends: list[End] = []
    try:
        async with aclosing(rest):
            for choice in range(choices):
                if opening := answer.first(choice):
                    yield f"data: {opening}\n\n"
            for event in first:
                if text := chunk(answer, event, ends):
                    yield text
            async for event in rest:
                if text := chunk(answer, event, ends):
                    yield text
        if include_usage:
            yield f"data: {answer.usage(ends)}\n\n"
        yield "data: [DONE]\n\n"
    except UserError as fault:
        yield f"data: {json.dumps(error_body(fault))}\n\n"
    except Exception:
        logger.exception("an answer failed")
        yield f"data: {json.dumps(error_body(EngineFailed('the server failed')))}\n\n"


def chunk(answer: ChatAnswer | TextAnswer, event: Event, ends: list[End]) -> str:
    """An event as it is sent; ends are noted."""
    match event:
        case Piece():
            return f"data: {answer.piece(event)}\n\n"
        case End():
            ends.append(event)
            return f"data: {answer.last(event)}\n\n"
        case _:
            return ""


async def while_connected(request: HttpRequest, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is given up when the client goes away. Raises ClientGone then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        with contextlib.suppress(BaseException):
            await asyncio.gather(task, gone, return_exceptions=True)


async def disconnected(request: HttpRequest) -> None:
    """Return when the client has gone. The body has been read already."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
