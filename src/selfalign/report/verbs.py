"""What the instructions ask for: each one's root verb and its direct object.

spaCy parses them where it is installed with its small English model. Else a guess from the words stands in, and the
report says so.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from selfalign.report.read import RunFiles
from selfalign.report.word_classes import verb_and_object

MODEL = "en_core_web_sm"
INSTALL = f"pip install 'selfalign[report]' && python -m spacy download {MODEL}"
MOST_PARSED = 10_000
"""Instructions that are parsed, those with the lowest keys (hashes): spaCy takes about a second for a thousand."""
MOST_VERBS, MOST_OBJECTS = 20, 4
OBJECTS = ("dobj", "obj")


class VerbUse(NamedTuple):
    """A verb (its lemma), how many instructions have it as their root with an object, and its commonest objects."""

    verb: str
    number: int
    objects: list[tuple[str, int]]


class Verbs(NamedTuple):
    """`parsed` instructions, of which `with_object` have a root verb with an object; `kinds` different pairs."""

    rows: list[VerbUse]
    parsed: int
    instructions: int
    with_object: int
    kinds: int
    method: str
    is_guess: bool


class Pair(NamedTuple):
    """A root verb and its object, as lemmas."""

    verb: str
    noun: str


def verbs(run: RunFiles, parser: Any = None) -> Verbs | None:
    """None where there are no instructions. `parser` is a spaCy pipeline, else the installed one, else none."""
    instructions = run.stage("instructions").get("accepted", 0)
    drawn = heapq.nsmallest(MOST_PARSED, run.accepted("instructions"), key=lambda record: record.key)
    texts = [record.user.split("\n\n", 1)[0] for record in drawn]
    if not texts:
        return None
    parser = parser or installed_parser()
    pairs = Counter(parsed(parser, texts) if parser else guessed(texts))
    by_verb: dict[str, Counter[str]] = {}
    for pair, number in pairs.items():
        by_verb.setdefault(pair.verb, Counter())[pair.noun] += number
    rows = [VerbUse(verb, nouns.total(), ordered(nouns)[:MOST_OBJECTS]) for verb, nouns in by_verb.items()]
    rows.sort(key=lambda row: (-row.number, row.verb))
    method = f"spaCy’s {MODEL}" if parser else "a guess from word lists and word order"
    return Verbs(
        rows[:MOST_VERBS], len(texts), max(instructions, len(texts)), pairs.total(), len(pairs), method, not parser
    )


def ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    """The commonest first, equals by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def installed_parser() -> Any:
    """spaCy with its small English model, or None."""
    try:
        import spacy

        return spacy.load(MODEL, exclude=["ner"])
    except (ImportError, OSError):  # OSError: spaCy without the model
        return None


def parsed(parser: Any, texts: Iterable[str]) -> Iterator[Pair]:
    """By the parse: the first root that is a verb and has an object."""
    for document in parser.pipe(texts):
        pair = root_pair(document)
        if pair:
            yield pair


def root_pair(document: Any) -> Pair | None:
    """The pair of the first sentence whose root is a verb with a direct object."""
    for root in (token for token in document if token.dep_ == "ROOT" and token.pos_ in ("VERB", "AUX")):
        for child in root.children:
            if child.dep_ in OBJECTS and child.pos_ in ("NOUN", "PROPN"):
                return Pair(root.lemma_.lower(), child.lemma_.lower())
    return None


def guessed(texts: Iterable[str]) -> Iterator[Pair]:
    """By the order of the words."""
    for text in texts:
        found = verb_and_object(text)
        if found:
            yield Pair(*found)
