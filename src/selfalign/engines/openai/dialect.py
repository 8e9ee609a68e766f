"""What servers of the OpenAI kind say differently: settings beyond OpenAI's own, and how a text ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from selfalign.engines.base import Completion, FinishReason, Request, Sampling
from selfalign.engines.openai.faults import Fault
from selfalign.engines.scripted import cut_at_stop
from selfalign.errors import UserError
from selfalign.records import Tokens

SEEDS = 2**31
"""Seeds are sent modulo this: llama.cpp reads 32 bits, and all ones as "a random one"."""


class Dialect(NamedTuple):
    """How to speak to one kind of server.

    `settings` are sent with every request, so that no default of the server's ever applies. `adds_bos` names the
    setting that turns the server's own beginning-of-sequence token off and on; where there is none (""), the server
    adds one to every text. `ends` names the setting that takes token ids which end a text. `stopped` tells from
    (choice, answer) whether a stop string ended the text.
    """

    settings: Mapping[str, Any]
    adds_bos: str
    ends: str
    min_tokens: bool
    echo: bool
    stopped: Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


def _named_stop(choice: Mapping[str, Any], _: Mapping[str, Any]) -> bool:
    return isinstance(choice.get("stop_reason"), str)


def _word_stop(_: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    return (answer.get("__verbose") or {}).get("stop_type") == "word"


DIALECTS = {
    "vllm": Dialect(
        settings={
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "skip_special_tokens": True,
            "ignore_eos": False,
        },
        adds_bos="add_special_tokens",
        ends="stop_token_ids",
        min_tokens=True,
        echo=True,
        stopped=_named_stop,
    ),
    # `samplers` says which run and in which order: left alone, llama.cpp cuts top-p before it applies the temperature
    "llamacpp": Dialect(
        settings={
            "samplers": ["temperature", "top_p"],
            "mirostat": 0,
            "dynatemp_range": 0.0,
            "min_keep": 0,
            "ignore_eos": False,
            "cache_prompt": True,
            "verbose": True,
            "response_fields": ["stop_type"],
        },
        adds_bos="",
        ends="",
        min_tokens=False,
        echo=False,
        stopped=_word_stop,
    ),
}
"""By the `owned_by` of a server's /v1/models."""

PLAIN = Dialect(settings={}, adds_bos="", ends="", min_tokens=True, echo=True, stopped=_named_stop)
"""Any other server: OpenAI's own settings alone, because OpenAI refuses a request that names others."""


def check_sampling(sampling: Sampling, dialect: Dialect) -> None:
    """Raise UserError for what no server (or not this one) can do, rather than sample otherwise than asked for."""
    if any(sampling.ngram_penalties):
        raise UserError(
            f"ngram_penalties {sampling.ngram_penalties}: no OpenAI-compatible server has n-gram penalties",
            "set elaborations.ngram_penalties to [0, 0, 0, 0], or use engine: embedded or vllm",
        )
    if sampling.penalise_word_starts_only:
        raise UserError(
            "penalise_word_starts_only: no OpenAI-compatible server has n-gram penalties",
            "set penalise_word_starts_only to false, or use engine: embedded or vllm",
        )
    if sampling.min_tokens and not dialect.min_tokens:
        raise UserError(
            f"min_tokens {sampling.min_tokens}: llama.cpp's server has no such setting",
            "set min_tokens to 0, or use engine: embedded or vllm",
        )


def sampling_body(sampling: Sampling, bias: Mapping[int, float], dialect: Dialect) -> dict[str, Any]:
    """The sampling part of a request; `bias` is by token id."""
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "n": 1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        **dialect.settings,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if bias:
        body["logit_bias"] = {str(token): amount for token, amount in bias.items()}
    if sampling.min_tokens:
        body["min_tokens"] = sampling.min_tokens
    return body


def first_choice(answer: Any) -> Mapping[str, Any]:
    """The only choice of an answer. A body without one is a Fault."""
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not choices or not isinstance(choices, list) or not isinstance(choices[0], Mapping):
        raise Fault(f"an answer without choices: {str(answer)[:200]}")
    return choices[0]


def read_completion(answer: Any, request: Request, dialect: Dialect, count: Callable[[str], int]) -> Completion:
    """A completion out of a server's answer; `count` counts tokens where the server does not.

    Where the server does not tell a stop string from an end-of-sequence token, the reason is `eos`.
    """
    choice = first_choice(answer)
    text = choice.get("text")
    if not isinstance(text, str):
        raise Fault(f"a choice without text: {str(choice)[:200]}")
    if choice.get("finish_reason") == "content_filter":
        return Completion.refused(request.key, "the server's content filter stopped it")
    finish = finish_reason(choice, answer, dialect)
    if not request.sampling.min_tokens:  # with it, a stop string may stand where none was looked for yet
        kept, _ = cut_at_stop(text, request.sampling.stop)
        text, finish = (kept, "stop") if kept != text else (text, finish)
    usage = answer.get("usage") or {}
    prompt = usage.get("prompt_tokens") or count(request.prefix + request.prompt)
    completion = usage.get("completion_tokens")
    return Completion(request.key, text, finish, Tokens(prompt, count(text) if completion is None else completion))


def read_piece(event: Any) -> str:
    """The text of one event of a stream; "" for one that only reports. An error in the stream is a Fault."""
    if not isinstance(event, Mapping) or event.get("error"):
        raise Fault(f"an error in the stream: {str(event)[:200]}")
    return str(first_choice(event).get("text") or "") if event.get("choices") else ""


def finish_reason(choice: Mapping[str, Any], answer: Mapping[str, Any], dialect: Dialect) -> FinishReason:
    """Why a text ended, in our words. A text that the server broke off (aborted, no reason given) is a Fault."""
    reason = choice.get("finish_reason")
    if reason == "length":
        return "length"
    if reason == "stop":
        return "stop" if dialect.stopped(choice, answer) else "eos"
    raise Fault(f"a text that ended with {reason!r}")
