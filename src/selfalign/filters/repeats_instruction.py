"""Responses that give the instruction back instead of an answer."""

from __future__ import annotations

import re

from selfalign.filters.words import holds_run, rouge_l, words
from selfalign.records import Verdict

SIMILAR = 0.8
CONTAINED_WORDS = 8
# One or two words ("Entropy") may well begin the answer as they began the instruction.
OPENING_WORDS = 3


def repeats_instruction(response: str, instruction: str) -> Verdict:
    """Rejects a response that begins with the instruction, is like it (ROUGE-L F >= 0.8), or is a part of it.

    Part: consecutive words of an instruction longer than 8 words, at least half of them; shorter quotes are answers
    ("Answer A, B or C"). A task that hands over a text ("Proofread: ...") is rightly answered with nearly that text:
    likeness and part count only where the response holds at least half of the words of the task itself, which is what
    stands before the first colon, sentence end or line end. Value: the ROUGE-L F-measure.
    """
    given, asked = words(response), words(instruction)
    score = rouge_l(given, asked)
    if len(asked) >= OPENING_WORDS and given[: len(asked)] == asked:
        return Verdict.reject("repeats_instruction", "begins with the instruction", score)
    if not gives_task_back(given, instruction):
        return Verdict.accept(score)
    if score >= SIMILAR:
        return Verdict.reject("repeats_instruction", f"ROUGE-L {score:.2f} with the instruction", score)
    if len(asked) > CONTAINED_WORDS and 2 * len(given) >= len(asked) and holds_run(asked, given):
        reason = f"{len(given)} words, all of them the instruction's"
        return Verdict.reject("repeats_instruction", reason, score)
    return Verdict.accept(score)


def gives_task_back(given: list[str], instruction: str) -> bool:
    """Whether at least half of the words of the task stand in what was given, in any order."""
    task = words(re.split(r":\s|\n|[.!?]\s", instruction.strip(), maxsplit=1)[0])
    return bool(task) and 2 * sum(word in given for word in task) >= len(task)
