"""unfinished: only the finish reason counts, and the reason shows where the text broke off."""

from __future__ import annotations

from selfalign.filters.unfinished import unfinished


def test_quotes_the_last_forty_characters() -> None:
    verdict = unfinished("x" * 50 + " and that is why the harbour froze over and\n", "length")
    assert (verdict.accepted, verdict.filter) == (False, "unfinished")
    assert verdict.reason.endswith("'" + " and that is why the harbour froze over and"[-40:] + "'")


def test_a_stop_is_an_end_even_in_the_middle_of_a_sentence() -> None:
    assert unfinished("and that is why", "stop").accepted


def test_an_empty_text_can_be_cut_too() -> None:
    assert not unfinished("", "length").accepted
