"""Answers as the `openai` package's own response types, whole and in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from openai.types import Completion, CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic_core import to_json

from selfalign.chat.server.models import Cited
from selfalign.chat.server.service import End, Piece
from selfalign.engines.batching import TokenChance
from selfalign.records import Tokens


class Head(NamedTuple):
    """What every chunk of an answer repeats."""

    id: str
    created: int
    model: str

    @classmethod
    def of(cls, kind: str, model: str) -> Head:
        """Of a new answer."""
        return cls(f"{kind}-{uuid.uuid4().hex}", int(time.time()), model)


def usage_of(ends: Iterable[End], choices: int) -> dict[str, Any]:
    """Tokens of the prompts, each counted once for all of its `choices`, and of the answers."""
    counts = [end.tokens if end.choice % choices == 0 else Tokens(0, end.tokens.completion) for end in ends]
    total = sum(counts, Tokens())
    return CompletionUsage(
        prompt_tokens=total.prompt,
        completion_tokens=total.completion,
        total_tokens=total.prompt + total.completion,
    ).model_dump(exclude_none=True)


def principles_of(cited: Sequence[Cited]) -> list[dict[str, Any]]:
    """The principles that a thought cites."""
    return [one._asdict() for one in cited]


class Frames:
    """The JSON around the text of an answer's chunks: made by the package's types once a choice, not once a token."""

    def __init__(self, head: Head) -> None:
        self.mark = f"the text of {head.id}"
        self.made: dict[tuple[int, str], tuple[str, str]] = {}

    def chunk(self, choice: int, field: str, text: str, make: Callable[[str], str]) -> str:
        """What `make(text)` would give; `field` says where in the chunk the text stands."""
        if (choice, field) not in self.made:
            before, _, after = make(self.mark).partition(to_json(self.mark).decode())
            self.made[choice, field] = (before, after)
        before, after = self.made[choice, field]
        return f"{before}{to_json(text).decode()}{after}"


class ChatAnswer:
    """`/v1/chat/completions`. The thought is `reasoning_content`, as other servers name it; `principles` beside it.

    `choices` is how many answers there are to a prompt.
    """

    def __init__(self, model: str, dropped_turns: int, choices: int) -> None:
        self.head = Head.of("chatcmpl", model)
        self.frames = Frames(self.head)
        self.dropped_turns = dropped_turns
        self.choices = choices

    def first(self, choice: int) -> str:
        """The chunk that opens a choice, and tells how many turns were left out."""
        return self._chunk(choice, {"role": "assistant", "content": ""}, dropped_turns=self.dropped_turns)

    def piece(self, piece: Piece) -> str:
        """A chunk of text, or of thought."""
        field, text = ("reasoning_content", piece.thought) if piece.thought else ("content", piece.text)
        if piece.chances:
            return self._chunk(piece.choice, {field: text}, logprobs=chat_logprobs(piece.chances))
        return self.frames.chunk(piece.choice, field, text, lambda said: self._chunk(piece.choice, {field: said}))

    def last(self, end: End) -> str:
        """The chunk that closes a choice."""
        delta = {"principles": principles_of(end.principles)} if end.thought else {}
        return self._chunk(end.choice, delta, finish_reason=end.finish_reason)

    def usage(self, ends: Sequence[End]) -> str:
        """The chunk with the token counts, which has no choices."""
        return self._json([], usage=usage_of(ends, self.choices))

    def whole(self, ends: Sequence[End], chances: Sequence[Sequence[TokenChance]], wanted: bool) -> dict[str, Any]:
        """The answer in one."""
        choices = [
            {
                "index": number,
                "finish_reason": end.finish_reason,
                "logprobs": chat_logprobs(chances[number]) if wanted else None,
                "message": {"role": "assistant", "content": end.text, "refusal": None, **thoughts(end)},
            }
            for number, end in enumerate(ends)
        ]
        fields = {
            **self.head._asdict(),
            "object": "chat.completion",
            "choices": choices,
            "usage": usage_of(ends, self.choices),
        }
        answer = ChatCompletion.model_validate(fields | {"dropped_turns": self.dropped_turns})
        return answer.model_dump(mode="json", exclude_unset=True)

    def _chunk(self, choice: int, delta: dict[str, Any], dropped_turns: int | None = None, **fields: Any) -> str:
        top = {} if dropped_turns is None else {"dropped_turns": dropped_turns}
        return self._json([{"index": choice, "delta": delta, "finish_reason": None} | fields], **top)

    def _json(self, choices: list[dict[str, Any]], **top: Any) -> str:
        fields = {**self.head._asdict(), "object": "chat.completion.chunk", "choices": choices}
        return ChatCompletionChunk.model_validate(fields | top).model_dump_json(exclude_unset=True)


def thoughts(end: End) -> dict[str, Any]:
    """The thought and what it cites, where there is one."""
    if not end.thought:
        return {}
    return {"reasoning_content": end.thought, "principles": principles_of(end.principles)}


def chat_logprobs(chances: Sequence[TokenChance]) -> dict[str, Any]:
    """Log-probabilities as chat answers have them."""
    return {
        "content": [
            token_logprob(chance.token, chance.log_probability)
            | {"top_logprobs": [token_logprob(token, value) for token, value in chance.likeliest]}
            for chance in chances
        ],
        "refusal": None,
    }


def token_logprob(token: str, value: float) -> dict[str, Any]:
    """A token; its bytes are not told where it is half a character."""
    return {"token": token, "logprob": value, "bytes": None if "\ufffd" in token else list(token.encode())}


class TextAnswer:
    """`/v1/completions`."""

    def __init__(self, model: str, dropped_turns: int, choices: int) -> None:
        self.head = Head.of("cmpl", model)
        self.frames = Frames(self.head)
        self.choices = choices
        self._written: dict[int, int] = {}

    def first(self, choice: int) -> str:
        """Nothing opens a choice here."""
        return ""

    def piece(self, piece: Piece) -> str:
        """A chunk of text."""
        if not piece.chances:
            return self.frames.chunk(
                piece.choice, "text", piece.text, lambda said: self._text(piece.choice, said, None)
            )
        offset = self._written.get(piece.choice, 0)
        self._written[piece.choice] = offset + sum(len(chance.token) for chance in piece.chances)
        return self._text(piece.choice, piece.text, text_logprobs(piece.chances, offset))

    def _text(self, choice: int, text: str, logs: dict[str, Any] | None) -> str:
        return self._json([{"index": choice, "text": text, "logprobs": logs, "finish_reason": None}])

    def last(self, end: End) -> str:
        """The chunk that closes a choice."""
        return self._json([{"index": end.choice, "text": "", "logprobs": None, "finish_reason": end.finish_reason}])

    def usage(self, ends: Sequence[End]) -> str:
        """The chunk with the token counts, which has no choices."""
        return self._json([], usage=usage_of(ends, self.choices))

    def whole(self, ends: Sequence[End], chances: Sequence[Sequence[TokenChance]], wanted: bool) -> dict[str, Any]:
        """The answer in one."""
        choices = [
            {
                "index": number,
                "finish_reason": end.finish_reason,
                "text": end.text,
                "logprobs": text_logprobs(chances[number]) if wanted else None,
            }
            for number, end in enumerate(ends)
        ]
        fields = {
            **self.head._asdict(),
            "object": "text_completion",
            "choices": choices,
            "usage": usage_of(ends, self.choices),
        }
        return Completion.model_validate(fields).model_dump(mode="json", exclude_unset=True)

    def _json(self, choices: list[dict[str, Any]], **top: Any) -> str:
        fields = {**self.head._asdict(), "object": "text_completion", "choices": choices} | top
        # A chunk's finish reason may be null, which the type of whole answers does not say.
        return Completion.construct(**fields).model_dump_json(exclude_unset=True, warnings=False)


def text_logprobs(chances: Sequence[TokenChance], offset: int = 0) -> dict[str, Any]:
    """Log-probabilities as raw completions have them; `offset` is where in the text the first token stands."""
    offsets = [offset + sum(len(chance.token) for chance in chances[:number]) for number in range(len(chances))]
    return {
        "tokens": [chance.token for chance in chances],
        "token_logprobs": [chance.log_probability for chance in chances],
        "top_logprobs": [dict(chance.likeliest) for chance in chances],
        "text_offset": offsets,
    }
