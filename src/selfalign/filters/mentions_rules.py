"""Responses that talk about the rules behind them.

The user sees a response only, and a model trained on it has no principles in its prompt, so that talk of them would
be talk of nothing. What counts as such talk:

- a citation, `7 (candor)`; the name decides, as in `cites_principle`;
- `principle 7` with a known number, unless it heads a line or a list item ("Principle 1: Know your audience");
- `rule 7 (candor)`: only with a principle's name, since "Rule 11 (offside)" is football;
- phrases in which a model speaks of its instructions ("my principles", "internal thought", "my guidelines require");
- a principle's name, if it is *telling*: two or more words parted by blanks, that are not an everyday phrase. A single
  word ("helpful") and a hyphenated one ("step-by-step") are ordinary prose, and so is "common sense".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from selfalign.filters.cites_principle import bracketed_citations, flexible
from selfalign.records import Verdict

PHRASES = re.compile(
    r"\binternal thought\b(?! process)"
    r"|\bmy (?:own |guiding |internal )?principles\b"
    r"|\bmy (?:guidelines|rules|constitution)"
    r" (?:requires?|says?|states?|tells? me|forbids?|prohibits?|instructs?|demands?"
    r"|do(?:es)?(?:n['’]t| not) (?:allow|permit))\b"
    r"|\b(?:principles|rules|guidelines) (?:that )?I (?:(?:must|have to|am supposed to) (?:follow|obey)"
    r"|was given|was told to|am given|am bound by|operate under)\b"
    r"|\b(?:according to|in line with|as per|violates?|against) my (?:guidelines|constitution)\b",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"\bprinciples?\s+(?:#|no\.\s*)?(?P<number>\d{1,3})(?![\w%]|\.\d)", re.IGNORECASE)
LINE_HEAD = re.compile(r"[\s#*\->_.)\d]*\Z")
# Names that a constitution may well use and that ordinary answers use too, without having any rule in mind.
EVERYDAY = frozenset(
    {
        "active listening", "common sense", "critical thinking", "do no harm", "fact checking", "free speech",
        "full disclosure", "good faith", "good judgement", "good judgment", "good manners", "human dignity",
        "human rights", "intellectual honesty", "mutual respect", "open mind", "personal data", "plain language",
        "privacy protection", "public interest", "safety first", "second opinion", "step by step",
    }
)  # fmt: skip


def mentions_rules(text: str, names: Mapping[int, str]) -> Verdict:
    """Rejects a text that cites a principle, names one by a telling name, or speaks of its own instructions."""
    if cited := next(bracketed_citations(text, names), None):
        return Verdict.reject("mentions_rules", f"cites {cited} ({names[cited]})")
    mention = PHRASES.search(text) or numbered_mention(text, names) or named_mention(text, names)
    if mention:
        return Verdict.reject("mentions_rules", f"speaks of its rules: {' '.join(mention[0].split())!r}")
    return Verdict.accept()


def numbered_mention(text: str, names: Mapping[int, str]) -> re.Match[str] | None:
    """The first `principle 7` in running text."""
    for match in NUMBERED.finditer(text):
        line_before = text[: match.start()].rpartition("\n")[2]
        if int(match["number"]) in names and not LINE_HEAD.match(line_before):
            return match
    return None


def named_mention(text: str, names: Mapping[int, str]) -> re.Match[str] | None:
    """The first telling name in the text."""
    patterns = [spelled(name) for name in names.values() if is_telling(name)]
    return re.search(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", text, re.IGNORECASE) if patterns else None


def is_telling(name: str) -> bool:
    """Two or more words parted by blanks, and no everyday phrase."""
    parts = name.casefold().split()
    return len(parts) > 1 and " ".join(parts) not in EVERYDAY


def spelled(name: str) -> str:
    """A pattern for a name, in which "&" may be written "and"."""
    return flexible(name).replace(re.escape("&"), "(?:&|and)")
