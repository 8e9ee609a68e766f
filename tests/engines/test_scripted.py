"""The scripted engine: which function answers."""

from __future__ import annotations

import pytest

from selfalign.engines.base import Completion
from selfalign.engines.scripted import load_script
from selfalign.errors import UserError
from selfalign.records import Tokens
from tests.support import scripts


def test_a_script_is_named_by_module_and_function() -> None:
    assert load_script("tests.support.scripts:answer") is scripts.answer


@pytest.mark.parametrize(
    "name", ["", ":", ":y", ".x:y", "..:y", "no.such.module:y", "tests.support.scripts:none", "os"]
)
def test_a_script_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(UserError, match=r"^engine\.script ") as caught:
        load_script(name)
    assert repr(name) in caught.value.message
    assert (caught.value.hint, caught.value.exit_code) == ("name an importable module:function", 2)


@pytest.mark.parametrize(
    ("said", "held"),
    [("a\ud83d b", "a\ufffd b"), ("\ude00", "\ufffd"), ("\ud83d\ude00 é", "😀 é"), ("\ufeff日本 😀\x00\n", None)],
)
def test_a_completion_is_text_that_a_file_can_hold(said: str, held: str | None) -> None:
    assert Completion("key", said, "eos", Tokens()).text == (said if held is None else held)
