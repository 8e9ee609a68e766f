"""Elaborations that show the prompt they were made under, or the encyclopedia they were learned from."""

from __future__ import annotations

import re

from selfalign.filters.words import all_runs, shared_run, words
from selfalign.records import Verdict

RUN_WORDS = 8
SECTION = re.compile(r"^[ \t#*=_>-]*(?:see also|external links)[ \t#*=_]*(?::.*)?$", re.IGNORECASE | re.MULTILINE)


def leaks_style(text: str, style_text: str) -> Verdict:
    """Rejects 8 consecutive words of the style's system text, or a line that heads "See also" or "External links".

    Value: the length of the run in words.
    """
    run = shared_run(words(text), all_runs([style_text], RUN_WORDS), RUN_WORDS)
    if run:
        return Verdict.reject("leaks_style", f'{len(run)} words of the style: "{" ".join(run)}"', len(run))
    if section := SECTION.search(text):
        return Verdict.reject("leaks_style", f"has a section line {section[0].strip()!r}")
    return Verdict.accept()
