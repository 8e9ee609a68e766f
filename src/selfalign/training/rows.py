"""Conversations -> token ids and labels, and a view of what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from selfalign.constitution.chat_format import IGNORED, ChatFormat, Row, encode_row
from selfalign.errors import UserError
from selfalign.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Conversation = tuple[str, Sequence[Message]]  # (key, messages)


def training_rows(
    tokenizer: PreTrainedTokenizerBase,
    chat_format: ChatFormat,
    conversations: Sequence[Conversation],
    max_length: int,
) -> list[Row]:
    """One row per conversation, of at most `max_length` tokens.

    A row without a labelled token is a UserError: it would cost time and teach nothing.
    """
    rows = []
    for index, (key, messages) in enumerate(conversations):
        row = encode_row(tokenizer, chat_format, messages, max_length)
        if all(label == IGNORED for label in row.labels):
            raise nothing_to_learn(index, key, messages, max_length)
        rows.append(row)
    return rows


def nothing_to_learn(index: int, key: str, messages: Sequence[Message], max_length: int) -> UserError:
    """The fault of a row whose assistant turn is missing, or lies beyond `max_length`."""
    start = " ".join(messages[0]["content"].split())[:60] if messages else ""
    return UserError(
        f"row {index} ({key}) has no token to learn within max_length {max_length}: it begins {start!r}",
        "raise max_length of that stage, or drop the row",
        exit_code=1,
    )


def labelled_tokens(rows: Sequence[Row]) -> int:
    """How many tokens are learnt in one pass."""
    return sum(label != IGNORED for row in rows for label in row.labels)


def show_masked(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    """The decoded row for the log; what is read and not learnt stands in ⟦ ⟧."""
    shown = ""
    for ignored, part in groupby(zip(row.input_ids, row.labels, strict=True), key=lambda pair: pair[1] == IGNORED):
        text = str(tokenizer.decode([token for token, _ in part]))
        shown += f"⟦{text}⟧" if ignored else text
    return shown
