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


@pytest.mark.parametrize("messages", [GOOD[:1], [{"role": "user", "content": "Hi" + "!" * 200}, GOOD[1]]])
def test_a_row_that_teaches_nothing_is_named(messages: list[Message]) -> None:
    with pytest.raises(UserError, match=r"row 1 \(bad\) .* max_length 100: it begins 'Hi") as fault:
        training_rows(TOKENIZER, FORMAT, [("good", GOOD), ("bad", messages)], 100)
    assert fault.value.exit_code == 1
