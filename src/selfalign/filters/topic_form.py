"""Topics that look like topics."""

from __future__ import annotations

import unicodedata

from selfalign.filters.words import count_words
from selfalign.records import Verdict

MAX_WORDS = 3
MAX_CHARACTERS = 40
# What prompts and lists are built from. A comma ("Paris, Texas") and a slash ("AC/DC") occur in good topics.
DELIMITERS = '<>[]{}|`*=_~^\\:;"'
# Marks that end a name rather than a sentence: "Mercury (planet)", "C#", "Top 1%".
FINAL_MARKS = ")#%"


def topic_form(text: str) -> Verdict:
    """Rejects what is not 1 to 3 words that begin with a capital or a digit and end without punctuation.

    Nor may it hold a delimiter or a control character, or more than 40 characters. Value: words or characters, where
    one of the two is the reason.
    """
    topic = text.strip()
    count = count_words(topic)
    if not 1 <= count <= MAX_WORDS:
        return Verdict.reject("topic_form", f"{count} words, allowed 1 to {MAX_WORDS}", count)
    if len(topic) > MAX_CHARACTERS:
        return Verdict.reject("topic_form", f"{len(topic)} characters, most allowed {MAX_CHARACTERS}", len(topic))
    if fault := fault_of(topic):
        return Verdict.reject("topic_form", fault)
    return Verdict.accept(count)


def fault_of(topic: str) -> str:
    """What is wrong with the characters of a topic (not empty), or the empty string."""
    strange = next((c for c in topic if c in DELIMITERS or unicodedata.category(c)[0] == "C"), "")
    if strange or "##" in topic:
        return f"holds {strange or '##'!r}"
    if not (topic[0].isupper() or topic[0].isdigit()):
        return f"begins with {topic[0]!r}, not with a capital"
    if unicodedata.category(topic[-1])[0] == "P" and topic[-1] not in FINAL_MARKS:
        return f"ends with {topic[-1]!r}"
    return ""
