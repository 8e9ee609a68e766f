"""Chunks of an answer: written around the text, and never otherwise than the package's own types would write them."""

from __future__ import annotations

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from selfalign.chat.server.answers import ChatAnswer, TextAnswer
from selfalign.chat.server.service import Piece

TEXTS = ["plain", "", 'a "quoted"\nline \\', "ü 😀 \u2028 \x00 \x7f", "the text of chatcmpl-"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_a_chat_chunk_is_what_the_packages_type_makes_of_it(text: str, field: str) -> None:
    answer = ChatAnswer("a model", 2, choices=4)
    for choice in (0, 3, 0):
        piece = (
            Piece(thought=text or "-", choice=choice) if field == "reasoning_content" else Piece(text, choice=choice)
        )
        delta = {field: piece.thought or piece.text}
        fields = {**answer.head._asdict(), "object": "chat.completion.chunk"}
        whole = fields | {"choices": [{"index": choice, "delta": delta, "finish_reason": None}]}
        assert answer.piece(piece) == ChatCompletionChunk.model_validate(whole).model_dump_json(exclude_unset=True)


@pytest.mark.parametrize("text", TEXTS)
def test_a_raw_chunk_is_what_the_packages_type_makes_of_it(text: str) -> None:
    answer = TextAnswer("a model", 0, choices=4)
    for choice in (0, 3, 0):
        made = {"index": choice, "text": text, "logprobs": None, "finish_reason": None}
        whole = Completion.construct(**answer.head._asdict(), object="text_completion", choices=[made])
        expected = whole.model_dump_json(exclude_unset=True, warnings=False)
        assert answer.piece(Piece(text, choice=choice)) == expected
