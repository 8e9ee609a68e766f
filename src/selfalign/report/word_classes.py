"""A guess at an instruction's verb and object from lists of words and their order, for want of a parser.

Right where an instruction is a command ("Write a short story about a dog": write, story), silent on most questions, and
wrong now and then: an adjective after the noun is taken for the noun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources

import yaml

LONGEST_PHRASE = 6
"""Words of a noun phrase; a longer one was no noun phrase."""
NO_NOUN = re.compile(r"(ly|ous|ful|able|ible|ing|ed|less)$")
TOKEN = re.compile(r"[A-Za-z][A-Za-z'’-]*|[.,;:?!()\"“”\n]|\d+")
SENTENCE_ENDS = frozenset(".?!\n")


@cache
def word_class(name: str) -> frozenset[str]:
    """The words of a class."""
    text = resources.files("selfalign.report").joinpath("word_classes.yaml").read_text(encoding="utf-8")
    return frozenset(str(yaml.safe_load(text)[name]).split())


def verb_and_object(text: str) -> tuple[str, str] | None:
    """Of the first sentence that begins with a command, both as lemmas; None where no sentence does."""
    for sentence in sentences(TOKEN.findall(text)):
        words = [word.lower() for word in sentence]
        while words and words[0] in word_class("openers") | {","}:
            words.pop(0)
        if words and words[0] in word_class("verbs"):
            noun = head_noun(words[1:])
            if noun:
                return words[0], noun
    return None


def sentences(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Tokens up to each end of a sentence."""
    sentence: list[str] = []
    for token in tokens:
        if token in SENTENCE_ENDS:
            yield sentence
            sentence = []
        else:
            sentence.append(token)
    yield sentence


def head_noun(words: Sequence[str]) -> str:
    """The last word of the noun phrase that begins the words, as a lemma; empty where none does."""
    rest = list(words)
    if rest and rest[0] in word_class("indirect"):
        rest.pop(0)
    while rest and (rest[0] in word_class("skipped") or rest[0].isdigit()):
        rest.pop(0)
    phrase: list[str] = []
    for word in rest:
        if word in word_class("ends") or not word[0].isalpha():
            break
        phrase.append(word)
    if len(phrase) > LONGEST_PHRASE:
        return ""
    while phrase and NO_NOUN.search(phrase[-1]):
        phrase.pop()
    return singular(phrase[-1]) if phrase else ""


def singular(noun: str) -> str:
    """Without the ending of a plural."""
    noun = re.sub(r"['’]s?$", "", noun)
    for ending, put in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if noun.endswith(ending) and len(noun) > len(ending) + 1:
            return noun.removesuffix(ending) + put
    return noun.removesuffix("s") if len(noun) > 3 and not noun.endswith(("ss", "us", "is")) else noun
