"""The scripted engine: which function answers."""

from __future__ import annotations

import pytest

from selfalign.engines.scripted import load_script
from selfalign.errors import UserError
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
