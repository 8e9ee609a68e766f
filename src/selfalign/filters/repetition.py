"""Texts that go round in circles: cut where the circle closes, and rejected where too little is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from selfalign.filters.words import count_words
from selfalign.records import Verdict

MIN_CLAUSE = 6
# Short pieces between commas recur in good prose ("in the middle of the night, ..."), so it takes more words there.
MIN_COMMA_PIECE = 8
# A shorter sentence may return once, for emphasis. Where others stand between, it takes longer ones: "Stir well." and
# "Yes, it is." return in good prose. "No!" three times over is emphasis still.
SENTENCE_TIMES = 3
MIN_SENTENCE = 4
MIN_SENTENCE_IN_A_ROW = 2
LOOP_WORDS = 8
LOOP_TIMES = 4
MIN_SHARE = 1 / 3

CLAUSE_END = r"[.!?;:]+[\"'”’)*_]*(?=\s|$)"
# The marks that part a text into units: lines, sentences and clauses, pieces between commas.
LEVELS = (
    (re.compile(r"\n+"), MIN_CLAUSE),
    (re.compile(rf"\n+|{CLAUSE_END}|\s[-–—]\s|—"), MIN_CLAUSE),
    (re.compile(rf"\n+|{CLAUSE_END}|\s[-–—]\s|—|,(?=\s|$)"), MIN_COMMA_PIECE),
)
SENTENCE_OR_LINE = re.compile(r"(?P<line>\n+)|[.!?。]+[\"'”’)*_\]]*(?=\s|$)|\Z")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
MARK = r"(?:(?:\d{1,3}|[^\W\d_])[.)]|[-*•])"  # "3.", "B)", "-"
LIST_MARK = re.compile(rf"^[ \t]*{MARK}[ \t]+", re.MULTILINE)
LONE_MARK = re.compile(rf"(?:^|\n)[ \t]*{MARK}?[ \t]*\Z")
FENCED = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
SENTENCE_END = re.compile(r"[.!?。]+[\"'”’)*_\]]*(?=\s|$)|(?<=\S)(?=[ \t]*\n)")


class Word(NamedTuple):
    """A word, case-folded, and where it begins in the text."""

    text: str
    at: int


class Sentence(NamedTuple):
    """Its words, where it begins, and the number of its line; a line that no mark ends is none, and has no words."""

    words: tuple[str, ...]
    at: int
    line: int


def repetition(text: str, min_words: int) -> Verdict:
    """Rejects a text of which `cut_repetition` leaves less than `min_words` words or a third. Value: the share left."""
    whole, cut = count_words(text), cut_repetition(text)
    if cut == text:
        return Verdict.accept(1.0)
    left = count_words(cut)
    share = left / whole
    if left < min_words or share < MIN_SHARE:
        return Verdict.reject("repetition", f"repeats itself after {left} of {whole} words", share)
    return Verdict.accept(share)


def cut_repetition(text: str) -> str:
    """What stands before the first repetition, up to the last sentence or line end there; all of it if there is none.

    A repetition is a sentence, clause or line of at least 6 words that stands earlier in the text, compared case-folded
    and without punctuation and list marks; a shorter sentence that returns twice, back to back or (from 4 words on)
    within a line; or a run of 1 to 8 words that follows itself until it has stood 4 times. What stood first is kept.
    Refrains, the speakers of a dialogue and the items of a list may say the same again, each on a line of its own.
    Fenced code is left alone: good code repeats its lines. Cutting is repeated until nothing changes, because a
    shortened last line can itself repeat an earlier one.
    """
    while (at := first_repetition(text)) is not None:
        text = whole_sentences(text[:at])
    return text


def first_repetition(text: str) -> int | None:
    """Where the first repetition begins, or None."""
    prose = LIST_MARK.sub(blank, FENCED.sub(blank, text))
    words = [Word(match[0].casefold().replace("’", "'"), match.start()) for match in WORD.finditer(prose)]
    places = [*repeated_units(prose, words), *returning_sentences(prose, words), *loops(words)]
    return min(places, default=None)


def blank(match: re.Match[str]) -> str:
    """Spaces and line ends in place of a match, so that positions hold."""
    return re.sub(r"[^\n]", " ", match[0])


def repeated_units(prose: str, words: list[Word]) -> Iterator[int]:
    """For each level, the beginning of the first unit whose words stand earlier in the text, as consecutive words."""
    joined = " " + "".join(f"{word.text} " for word in words)
    # The k-th word stands at offsets[k] of `joined`, so that "earlier" is a search in a prefix.
    offsets = [0]
    for word in words:
        offsets.append(offsets[-1] + len(word.text) + 1)
    for marks, minimum in LEVELS:
        for first, last in units(prose, words, marks):
            unit = joined[offsets[first] : offsets[last] + 1]
            if last - first >= minimum and joined.find(unit, 0, offsets[first] + 1) >= 0:
                yield words[first].at
                break


def units(prose: str, words: list[Word], marks: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """The word ranges, first and behind the last, of the pieces that `marks` parts a text into."""
    first = last = 0
    for end in [*(match.start() for match in marks.finditer(prose)), len(prose)]:
        while last < len(words) and words[last].at < end:
            last += 1
        if last > first:
            yield first, last
        first = last


def returning_sentences(prose: str, words: list[Word]) -> Iterator[int]:
    """Where each sentence that stands `SENTENCE_TIMES` times, in a row or within a line, begins for the second time."""
    places: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    row: list[Sentence] = []
    for sentence in sentences(prose, words):
        row = [*row, sentence] if row and row[-1].words == sentence.words else [sentence]
        if not any(map(has_letter, sentence.words)):
            continue
        if len(row) == SENTENCE_TIMES and len(sentence.words) >= MIN_SENTENCE_IN_A_ROW:
            yield row[1].at
        within_line = places.setdefault((sentence.line, sentence.words), [])
        within_line.append(sentence.at)
        if len(within_line) == SENTENCE_TIMES and len(sentence.words) >= MIN_SENTENCE:
            yield within_line[1]


def sentences(prose: str, words: list[Word]) -> Iterator[Sentence]:
    """The sentences of a text in order. The last one may lack its mark: the token limit takes it."""
    first = last = line = 0
    for end in SENTENCE_OR_LINE.finditer(prose):
        while last < len(words) and words[last].at < end.start():
            last += 1
        if last > first:
            said = () if end["line"] else tuple(word.text for word in words[first:last])
            yield Sentence(said, words[first].at, line)
        line += bool(end["line"])
        first = last


def loops(words: list[Word]) -> Iterator[int]:
    """For each run length of 1 to 8, where the first run that stands 4 times back to back begins for the second time.

    A run without letters is no loop: 0, 0, 0, 0 may be a row of a table.
    """
    for size in range(1, LOOP_WORDS + 1):
        same = 0
        for at in range(size, len(words)):
            same = same + 1 if words[at].text == words[at - size].text else 0
            second = at - same + 1
            if same == size * (LOOP_TIMES - 1) and any(has_letter(word.text) for word in words[second : at + 1]):
                yield words[second].at
                break


def has_letter(word: str) -> bool:
    """Whether a word is more than a number."""
    return any(character.isalpha() for character in word)


def whole_sentences(text: str) -> str:
    """The text up to its last sentence or line end; the mark of a list item that lost its words goes too."""
    body = text.rstrip()
    ends = [match.end() for match in SENTENCE_END.finditer(text) if match.end() <= len(body)]
    kept = body[: ends[-1]] if ends else ""
    return LONE_MARK.sub("", kept).rstrip()
