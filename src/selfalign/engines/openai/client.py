"""Asking an OpenAI-compatible server: the key, the time limit, what each fault means, and when to ask again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from selfalign.engines.openai.faults import Fault, check_status, decoded, json_of
from selfalign.errors import EngineFailed, UserError

if TYPE_CHECKING:
    import httpx2
    from tenacity import AsyncRetrying, RetryCallState

T = TypeVar("T")
logger = logging.getLogger("selfalign")

BACKOFF = 0.5
"""Seconds before the first repetition at most; each later one may wait twice as long."""
LONGEST_BACKOFF = 60.0
"""Seconds between two attempts at most, unless the server's Retry-After asks for more."""
LONGEST_RETRY_AFTER = 600.0
"""Seconds that a Retry-After is honoured for at most: a server that is away for longer ends the run sooner."""
OPENING_RETRIES = 2
"""Repetitions of the first questions at most: a wrong URL is to show in seconds, not after minutes of back-off."""


class Client:
    """One server. Every question but `stream` has one time limit for all of it, the reading included."""

    def __init__(self, base_url: str, timeout: float, retries: int) -> None:
        import httpx2

        self.key = os.environ.get("OPENAI_API_KEY", "")
        self.url = checked_url(base_url)
        self.shown = str(self.url.copy_with(username=None, password=None))
        self.timeout = timeout
        self.retries = retries
        self.gave_up = asyncio.Event()
        # the engine bounds what is in flight; a pool that waited would count against the time limit
        self.http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=timeout,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        read: Callable[[Any], T] = lambda answer: answer,
        opening: bool = False,
    ) -> T:
        """What `read` makes of the JSON that answers; a `Fault` out of `read` is a failed attempt too.

        Raises Refusal, UserError where no request could succeed, EngineFailed where the retries are used up.
        """

        async def once() -> T:
            return read(json_of(await self._answer(method, path, body)))

        return await self._persist(once, path, min(self.retries, OPENING_RETRIES) if opening else self.retries)

    async def command(self, path: str, body: Any) -> None:
        """Have the server do something; what it says to that is of no interest unless it refuses (as in `ask`)."""

        async def once() -> None:
            await self._answer("POST", path, body)

        await self._persist(once, path, min(self.retries, OPENING_RETRIES))

    async def stream(self, path: str, body: Any, send: Callable[[Any], None]) -> None:
        """Send every event of an event stream, decoded. It is asked again only as long as nothing was sent."""
        started = False

        def forward(event: Any) -> None:
            nonlocal started
            started = True
            send(event)

        async def once() -> None:
            try:
                await self._events(path, body, forward)
            except Fault as fault:
                if started:
                    raise self._failed(path, f"the stream broke off: {fault}") from fault
                raise

        await self._persist(once, path, self.retries)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def _answer(self, method: str, path: str, body: Any) -> httpx2.Response:
        import httpx2

        try:
            async with asyncio.timeout(self.timeout):
                response = await self.http.request(method, self._place(path), json=body)
        except (TimeoutError, httpx2.TimeoutException) as fault:
            raise Fault(f"no answer within {self.timeout:g} s") from fault
        except httpx2.RequestError as fault:
            raise Fault(f"{type(fault).__name__}: {fault}".rstrip(": ")) from fault
        check_status(response, self.shown, self.key)
        return response

    async def _events(self, path: str, body: Any, send: Callable[[Any], None]) -> None:
        import httpx2

        try:
            async with self.http.stream("POST", self._place(path), json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                check_status(response, self.shown, self.key)
                async for event in httpx2.EventSource(response):
                    if event.data == "[DONE]":
                        return
                    send(decoded(event.data))
                raise Fault("the stream ended before it was done")
        except httpx2.TimeoutException as fault:
            raise Fault(f"nothing came for {self.timeout:g} s") from fault
        except httpx2.RequestError as fault:
            raise Fault(f"{type(fault).__name__}: {fault}".rstrip(": ")) from fault

    def _place(self, path: str) -> httpx2.URL:
        return self.url.copy_with(path=self.url.path.rstrip("/") + path)

    async def _persist(self, once: Callable[[], Awaitable[T]], path: str, retries: int) -> T:
        """`once()` again and again until it raises no Fault, at most `retries` times again."""
        try:
            answer: T = await self._retrying(retries)(once)
            return answer
        except Fault as fault:
            raise self._failed(path, str(fault)) from fault

    def _retrying(self, retries: int) -> AsyncRetrying:
        import tenacity

        backoff = tenacity.wait_random_exponential(multiplier=BACKOFF, max=LONGEST_BACKOFF)

        def wait(state: RetryCallState) -> float:
            fault = state.outcome.exception() if state.outcome else None
            asked = fault.retry_after if isinstance(fault, Fault) else 0.0
            return min(asked, LONGEST_RETRY_AFTER) + random.uniform(0, BACKOFF) if asked else backoff(state)

        return tenacity.AsyncRetrying(
            stop=lambda state: state.attempt_number > retries or self.gave_up.is_set(),
            wait=wait,
            sleep=self._pause,
            retry=tenacity.retry_if_exception_type(Fault),
            before_sleep=self._note,
            reraise=True,
        )

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless another request has given up: then this one has its last attempt now."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gave_up.wait(), seconds)

    def _note(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome else None
        logger.info("%s: %s; asked again in %.1f s", self.shown, fault, state.upcoming_sleep)

    def _failed(self, path: str, reason: str) -> EngineFailed:
        return EngineFailed(
            f"{self.shown}{path} does not answer: {reason}",
            "see that the server runs (engine.base_url), then start the run again: it goes on where it stopped",
        )


def checked_url(base_url: str) -> httpx2.URL:
    """`base_url` as a URL of http or https with a host; else UserError."""
    import httpx2

    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as fault:
        raise UserError(f"engine.base_url {base_url!r}: {fault}", "write it as http://HOST:PORT/v1") from fault
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"engine.base_url {base_url!r} is no http address", "write it as http://HOST:PORT/v1")
    return url
