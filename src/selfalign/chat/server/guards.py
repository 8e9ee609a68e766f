"""Who may ask, how often, and how much: the key, the rates, and the size and slowness of a body."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import time
from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfalign.chat.server.errors import Refused, error_response
from selfalign.errors import UserError

OPEN = ("/healthz", "/readyz")
"""What a load balancer asks, which has no key."""

COUNTED = ("/completions", "/queue/join")
"""Ends of the paths that ask for an answer: the API's, and the page's."""

DISCARDED = 64 * 2**20
"""Bytes beyond the limit that are read and thrown away: a client that still sends does not read its answer."""

CLIENTS = 10_000
"""Clients whose rate is remembered, the one seen longest ago forgotten first."""


async def refuse(fault: UserError, scope: Scope, receive: Receive, send: Send, **headers: str) -> None:
    """Answer with an error."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    await error_response(fault, told)(scope, receive, send)


class Key:
    """Asks for the key: a bearer token, or the password of HTTP Basic, so that a browser can ask its user."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        given = given_key(Headers(scope=scope).get("authorization", ""))
        if hmac.compare_digest(digest(given), self.key):
            await self.app(scope, receive, send)
            return
        scheme = "Bearer" if scope["path"].startswith("/v1") else 'Basic realm="selfalign"'
        fault = Refused("the API key is missing or wrong", "send Authorization: Bearer KEY", 401, "invalid_api_key")
        await refuse(fault, scope, receive, send, WWW_Authenticate=scheme)


def digest(key: bytes) -> bytes:
    """Of one length whatever the key's, so that comparing takes one time."""
    return hashlib.sha256(key).digest()


def given_key(authorization: str) -> bytes:
    """The key that a request's Authorization carries; empty where there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


class Bucket:
    """A token bucket: `rate` requests a minute, a tenth of them (one at least) at once."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate / 60
        self.size = max(1.0, rate / 10)
        self.level, self.time = self.size, now

    def wait(self, now: float) -> float:
        """Seconds until a request may come; 0 takes one."""
        self.level = min(self.size, self.level + (now - self.time) * self.rate)
        self.time = now
        return 0.0 if self.level >= 1 else (1 - self.level) / self.rate

    def take(self) -> None:
        """Count one request."""
        self.level -= 1


class Rate:
    """Requests a minute, of each client and of all; 429 with Retry-After beyond. 0 sets no limit."""

    def __init__(self, app: ASGIApp, rate: float, total: float) -> None:
        self.app = app
        self.rate = rate
        self.total = Bucket(total, time.monotonic()) if total else None
        self.clients: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 429."""
        counted = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(COUNTED)
        wait = self._wait(scope) if counted else 0.0
        if not wait:
            await self.app(scope, receive, send)
            return
        seconds = math.ceil(wait)
        fault = Refused("too many requests", f"try again in {seconds} s", 429, "rate_limit_exceeded")
        await refuse(fault, scope, receive, send, Retry_After=str(seconds))

    def _wait(self, scope: Scope) -> float:
        now = time.monotonic()
        buckets = [bucket for bucket in (self.total, self._client(scope, now)) if bucket]
        wait = max((bucket.wait(now) for bucket in buckets), default=0.0)
        if not wait:
            for bucket in buckets:
                bucket.take()
        return wait

    def _client(self, scope: Scope, now: float) -> Bucket | None:
        """The bucket of an address."""
        if not self.rate:
            return None
        name = (scope.get("client") or ("",))[0]
        bucket = self.clients.pop(name, None) or Bucket(self.rate, now)
        self.clients[name] = bucket
        while len(self.clients) > CLIENTS:
            self.clients.popitem(last=False)
        return bucket


class Body:
    """Bounds a body in bytes (413) and in the seconds that it may take to come (408)."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app = app
        self.most = most
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a body, and pass it on whole. What comes with a GET is let be: nobody reads it."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(Headers(scope=scope), receive)
        except TimeoutError:
            fault = Refused(f"the body took longer than {self.seconds:g} s", "send it at once", 408)
            await refuse(fault, scope, receive, send, Connection="close")
            return
        except Refused as fault:
            await refuse(fault, scope, receive, send, Connection="close")
            return
        if body is not None:
            await self.app(scope, once(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None where the client went away before its end. One that is too large is not kept."""
        too_large = Refused(f"the body is larger than {self.most} bytes", "send less", 413)
        said = headers.get("content-length", "")
        readable = self.most + (0 if "expect" in headers else DISCARDED)  # who expects a "continue" sends nothing yet
        if said.isdecimal() and int(said) > readable:
            raise too_large
        size, parts = 0, list[bytes]()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self.most + DISCARDED:
                raise too_large
            if size <= self.most:
                parts.append(part)
            if not message.get("more_body"):
                break
        if size > self.most:
            raise too_large
        return b"".join(parts)


def once(body: bytes, receive: Receive) -> Receive:
    """Gives the body first, and then whatever comes: that the client has gone."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
