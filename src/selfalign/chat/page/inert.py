"""Markdown of a model's in which HTML is text, for a page that would draw it.

Gradio reads an answer as Markdown and takes scripts out of its HTML, but draws the rest: boxes, frames, pictures. Here
a tag, a picture and a Mermaid drawing become text. Code, in which `<` is text already, stays as it is, so that it can
be copied; elsewhere only what would open a tag is changed, by a character reference that stands for the same sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

WOULD_ACT = re.compile(
    r"\\[\s\S]"  # an escaped sign is text
    r"|<(?=[A-Za-z/!?])(?!https?://[^\s<>]*>)"  # opens a tag; an address in angle brackets is a link
    r"|!(?=\[)"  # opens a picture
    r"|```(?= *mermaid)"  # opens a drawing, whose labels may hold HTML
    r"|&(?=(?:amp;)*#(?:60|33);)"  # would be taken for one of those below
)
INERT = re.compile(r"\\[\s\S]|&#60;|&#33;(?=\[)|``` (?= *mermaid)|&amp;(?=(?:amp;)*#(?:60|33);)")
SHOWN_AS = {"<": "&#60;", "!": "&#33;", "```": "``` ", "&": "&amp;"}
WRITTEN_AS = {shown: written for written, shown in SHOWN_AS.items()}


def inert(text: str) -> str:
    """Markdown that shows `text` and holds no HTML, picture or drawing."""
    return changed(text, WOULD_ACT, SHOWN_AS)


def as_written(text: str) -> str:
    """What `inert` was given."""
    return changed(text, INERT, WRITTEN_AS)


def changed(text: str, pattern: re.Pattern[str], instead: dict[str, str]) -> str:
    """`text` with what `pattern` finds outside code put as `instead` says, or left where that does not say."""
    if not pattern.search(text):
        return text

    def change(part: str) -> str:
        return pattern.sub(lambda found: instead.get(found[0], found[0]), part)

    return "".join(outside_code(text, change))


def outside_code(text: str, change: Callable[[str], str]) -> Iterator[str]:
    """The stretches of `text`, code as it is, all else changed."""
    end = 0
    for start, stop in code(text):
        yield change(text[end:start])
        yield text[start:stop]
        end = stop
    yield change(text[end:])


def code(text: str) -> Iterator[tuple[int, int]]:
    """Where the code of a Markdown text stands, in order: the lines within a fence, and spans with their backticks."""
    if "`" not in text and "~~~" not in text:
        return
    lines = [0, *(newline.end() for newline in re.finditer(r"\r\n?|\n", text)), len(text)]
    end = 0
    for token in parser().parse(text):
        if not token.map or token.type not in ("fence", "inline"):
            continue
        begin, stop = (lines[min(line, len(lines) - 1)] for line in token.map)
        if token.type == "fence":
            end = stop
            yield text.find("\n", begin, stop) + 1 or stop, stop
            continue
        for span in spans(text, max(begin, end), stop, token.children or []):
            yield span
            end = span[1]


def spans(text: str, start: int, stop: int, children: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """The code spans among `children`, found again between `start` and `stop`; one that is not found is left out."""
    for child in children:
        if child.type != "code_inline":
            continue
        words = r"\s".join(map(re.escape, child.content.split(" ")))
        found = re.compile(rf"(?<![`\\]){child.markup}(?!`)\s?{words}\s?{child.markup}(?!`)").search(text, start, stop)
        if found:
            yield found.span()
            start = found.end()


@cache
def parser() -> MarkdownIt:
    """Markdown as the page reads it once `inert` has been there: no HTML, and no pictures but links."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "autolink"])
