"""What becomes of conversations before training."""

from __future__ import annotations

import pytest

from selfalign.constitution.chat_format import ChatFormat
from selfalign.errors import UserError
from selfalign.records import Message
from selfalign.training.rows import labelled_tokens, show_masked, training_rows
from tests.support.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
FORMAT = ChatFormat.of(TOKENIZER, "Be kind.")
GOOD: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def test_eos_is_labelled_and_the_prompt_is_not() -> None:
    (row,) = training_rows(TOKENIZER, FORMAT, [("a", GOOD)], 500)
    assert show_masked(TOKENIZER, row) == "⟦Be kind.\n\n### User\nHi\n\n### Assistant\n⟧Hello<|end|>"
    assert row.labels[-1] == TOKENIZER.eos_token_id
    assert labelled_tokens([row]) == len("Hello") + 1


@pytest.mark.parametrize("messages, max_length", [(GOOD, 20), (GOOD[:1], 500)])
def test_a_row_that_teaches_nothing_is_named(messages: list[Message], max_length: int) -> None:
    with pytest.raises(UserError, match=r"row 1 \(bad\) .* 'Hi'") as fault:
        training_rows(TOKENIZER, FORMAT, [("a", GOOD)] * (max_length > 100) + [("b", GOOD)] * 0, 500)
        training_rows(TOKENIZER, FORMAT, [("a", LONG_ENOUGH), ("bad", messages)], max_length)
    assert fault.value.exit_code == 1


LONG_ENOUGH: list[Message] = [
    {"role": "system", "content": ""},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "Hello"},
]
