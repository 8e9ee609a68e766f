"""Instructions that begin as a sentence does."""

from __future__ import annotations

import unicodedata

from selfalign.records import Verdict

# Quotes and brackets beyond the Unicode categories of opening ones (Ps, Pi); Spanish opens with the inverted marks.
OPENING = "\"'¿¡"


def start(text: str) -> Verdict:
    """Rejects a text that begins with punctuation, a sign, or a letter outside the Latin script.

    Opening quotes and brackets, digits and currency signs ("$20 buys...") may stand first; behind opening marks, the
    first letter is looked at in the same way.
    """
    body = text.strip()
    if not body:
        return Verdict.reject("start", "nothing to begin with")
    first = body[0]
    if not may_begin(first):
        return Verdict.reject("start", f"begins with {first!r} ({unicodedata.name(first, 'unnamed')})")
    letter = next((character for character in body if not is_opening(character)), first)
    if letter.isalpha() and not is_latin(letter):
        return Verdict.reject("start", f"begins outside the Latin script: {letter!r} ({unicodedata.name(letter, '?')})")
    return Verdict.accept()


def is_opening(character: str) -> bool:
    """An opening quote or bracket."""
    return character in OPENING or unicodedata.category(character) in ("Ps", "Pi")


def is_latin(letter: str) -> bool:
    """A letter of the Latin script, accented or not; `unicodedata` has no script property, but names tell."""
    return "LATIN" in unicodedata.name(letter, "")


def may_begin(character: str) -> bool:
    """A letter, a number, an opening mark or a currency sign."""
    return is_opening(character) or unicodedata.category(character)[0] in "LN" or character in "$£€¥₹"
