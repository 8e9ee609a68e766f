"""What a server's answer means when it is not the one hoped for: ask again, refuse one request, or end with advice."""

from __future__ import annotations

import email.utils
import json
import time
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    import httpx2

WORTH_ASKING_AGAIN = {408, 425, 429}
"""Statuses below 500 that pass by themselves."""
ABOUT_THE_REQUEST = {400, 413, 422}
"""Statuses that blame this request and no other."""
WORDS = 300
"""Characters of a server's answer that are quoted."""


class Fault(Exception):
    """A failed attempt that another may mend; `retry_after` is the server's own wish in seconds."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refusal(Exception):
    """The server will not take this very request, in its own words; asking again would not help."""


def check_status(response: httpx2.Response, server: str, key: str) -> None:
    """Sort an answer by its status: 200 passes. Raises Fault, Refusal or UserError.

    `server` is the address as it may be shown; `key` is cut out of the server's words, since some repeat it.
    """
    status = response.status_code
    if status == 200:
        return
    words = server_words(response.text.replace(key, "...") if key else response.text)
    if status in WORTH_ASKING_AGAIN or status >= 500:
        raise Fault(f"status {status}: {words}", seconds_of(response.headers.get("retry-after", "")))
    if status in ABOUT_THE_REQUEST:
        raise Refusal(words)
    if status in (401, 403):
        raise UserError(
            f"{server} refuses the key (status {status}): {words}", "set OPENAI_API_KEY to a key of that server"
        )
    raise UserError(
        f"{server} has no {response.request.url.path} (status {status}): {words}",
        "set engine.base_url to the address that ends in /v1, and engine.served_model to a model of that server",
    )


def json_of(response: httpx2.Response) -> Any:
    """The JSON of a 200; garbage is a Fault that quotes its beginning."""
    return decoded(response.text, response.headers.get("content-type", "no content type"))


def decoded(text: str, kind: str = "an event") -> Any:
    """`text` as JSON; where it is none, a Fault that names what came instead."""
    try:
        return json.loads(text)
    except ValueError as fault:
        raise Fault(f"not JSON but {kind}: {server_words(text)}") from fault


def server_words(text: str) -> str:
    """What a server says went wrong: the message of its JSON error, or the beginning of whatever it sent."""
    words: Any = text
    try:
        words = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:WORDS] or "(empty)"
    for name in ("error", "message", "detail"):
        if isinstance(words, dict) and words.get(name):
            words = words[name]
    return " ".join(str(words).split())[:WORDS]


def seconds_of(retry_after: str) -> float:
    """A Retry-After header in seconds from now, written as seconds or as an HTTP date; 0 where it is neither."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0
