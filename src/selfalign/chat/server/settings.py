"""Limits of a server, each with its default."""

from __future__ import annotations

from typing import NamedTuple

API_KEY = "SELFALIGN_API_KEY"
"""Environment variable: the key that clients must send, where the command line names none."""


class Settings(NamedTuple):
    """What a server takes and allows. 0 turns a rate off."""

    api_key: str = ""
    """What clients must send; empty lets everyone in."""
    rate: float = 0.0
    """Requests a minute of one client (its address); 429 beyond."""
    total_rate: float = 0.0
    """Requests a minute of all clients."""
    max_body: int = 2 * 2**20
    """Bytes of a request's body; 413 beyond."""
    max_tokens: int = 4096
    """Most new tokens of an answer that a request may ask for."""
    default_tokens: int = 512
    """Most new tokens of a chat answer where the request does not say."""
    max_choices: int = 16
    """Answers that one request may ask for: `n` times its prompts."""
    body_seconds: float = 30.0
    """Seconds that a body may take to arrive; 408 beyond."""
    hosts: tuple[str, ...] = ()
    """Names that a request's Host may have; empty takes any. On loopback it keeps other pages' scripts out."""
    origins: tuple[str, ...] = ()
    """Other origins whose pages may call this server (CORS); none unless named."""
    log_text: bool = False
    """Whether messages go into the log."""
