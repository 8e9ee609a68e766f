"""Scoring through `echo`: the server repeats the prompt with the log-probability of each of its tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

from selfalign.engines.base import Score
from selfalign.engines.openai.dialect import first_choice
from selfalign.engines.openai.models import Served
from selfalign.errors import UserError

SCORE_ELSEWHERE = "score on another engine: embedded, vllm, or openai against `vllm serve`"
"""What to do about a server without echo."""


class Pair(NamedTuple):
    """Token ids of a context and of what is scored after it."""

    context: list[int]
    continuation: list[int]


def check_echo(served: Served, server: str) -> None:
    """Raise UserError for a server known to be unable: llama.cpp's ignores `echo` without a word.

    vLLM's worker dies of an `echo` with log-probabilities while it holds adapters (vLLM issue 16668, open in 0.32):
    better not asked than the server gone.
    """
    if not served.dialect.echo:
        raise UserError(f"{server} is llama.cpp's server, which has no echo and cannot score", SCORE_ELSEWHERE)
    if served.beside_adapters:
        raise UserError(
            f"{server} serves LoRA adapters, and vLLM fails at scoring beside them",
            f"serve the merged model on a server without --enable-lora, or {SCORE_ELSEWHERE}",
        )


def score_body(model: str, pair: Pair) -> dict[str, Any]:
    """The question. One new token is asked for, because not every server takes none; its score is left out."""
    return {
        "model": model,
        "prompt": [*pair.context, *pair.continuation],
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,
        "temperature": 0.0,
        "n": 1,
    }


def read_score(answer: Any, pair: Pair, server: str) -> Score:
    """The sum over the continuation's tokens, greedy where none had a likelier rival.

    Raises UserError where the answer has no log-probability for every one of them.
    """
    logprobs = first_choice(answer).get("logprobs") or {}
    start, end = len(pair.context), len(pair.context) + len(pair.continuation)
    values = (logprobs.get("token_logprobs") or [])[start:end]
    rivals = (logprobs.get("top_logprobs") or [])[start:end]
    if len(values) < len(pair.continuation) or len(rivals) < len(values):
        raise UserError(f"{server} answers without the prompt's log-probabilities: it has no echo", SCORE_ELSEWHERE)
    if None in values:
        raise UserError("score: the context is empty, so its first token has no probability", "give a context")
    is_greedy = all(value >= max(top.values()) for value, top in zip(values, rivals, strict=True))
    return Score(float(sum(values)), len(values), is_greedy)
