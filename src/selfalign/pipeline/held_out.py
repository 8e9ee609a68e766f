"""Held-out answers: unseen instructions put to the base model, bare and under principles, and to both tuned ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from itertools import count
from typing import Any, Literal

from selfalign.constitution.kept_thought import split_thought
from selfalign.constitution.rendering import (
    STOP_REPLY,
    STOP_THOUGHT,
    join_thought,
    reply_prompt,
    responses_prefix,
    thought_prompt,
)
from selfalign.filters.cites_principle import cited_principles
from selfalign.pipeline.stage import Barrier, Context, Job, Steps
from selfalign.record_store import Chosen, keys_of
from selfalign.records import Message, Record, Verdict, content_hash

Variant = Literal["base", "base+principles", "engraved", "final"]

VARIANTS: dict[Variant, tuple[str, str]] = {
    "base": ("base", "base, no principles"),
    "base+principles": ("base", "base under the principles"),
    "engraved": ("engraved", "engraved"),
    "final": ("final", "final"),
}
"""Variant -> (model, label). All but `base+principles` see the chat format in its standard style and nothing else."""


def split_held_out(instructions: Sequence[Record], wanted: int) -> tuple[Chosen, Chosen]:
    """(training, held out), each in the given order. Chosen by key, and never more than a third."""
    drawn = (content_hash(["held out", key]) for key in keys_of(instructions))
    number = min(wanted, len(instructions) // 3)
    held = {place for _, place in nsmallest(number, zip(drawn, count(), strict=False))}
    training = (place for place in range(len(instructions)) if place not in held)
    return Chosen(instructions, training), Chosen(instructions, sorted(held))


class HeldOutStage:
    """One answer of one variant for each held-out instruction; nothing is rejected."""

    def __init__(self, context: Context, variant: Variant, instructions: Sequence[Record]) -> None:
        self.name = f"evaluate/{variant}"
        self.model = VARIANTS[variant][0]
        self.context = context
        self.variant = variant
        self.instructions = instructions
        self.first = 0
        self.prefix = responses_prefix(context.constitution)

    @property
    def goal(self) -> int:
        """One answer an instruction."""
        return len(self.instructions)

    def jobs(self) -> Iterator[Job | Barrier]:
        """In the order of the instructions."""
        steps = self._thoughtful if self.variant == "base+principles" else self._bare
        return self.context.jobs_of(self.instructions, steps, self.first)

    def _bare(self, key: Callable[[int], str], instruction: Record) -> Steps:
        question: Message = {"role": "user", "content": instruction.user}
        completion = yield self.context.chat_request(key(0), (question,), self.context.sampling())
        thought, reply = split_thought(completion.text)
        extra = {
            "thought": thought,
            "principles": cited_principles(thought, self.context.constitution.principle_names),
            "tokens": completion.tokens,
        }
        return [self._answer(key(0), instruction, reply, completion.finish_reason, **extra)]

    def _thoughtful(self, key: Callable[[int], str], instruction: Record) -> Steps:
        user, names = instruction.user, self.context.constitution.principle_names
        opening = self.context.constitution.templates.thought_opening
        sampling = self.context.sampling(stop=STOP_THOUGHT)
        completion = yield self.context.request(key(0), "thought", thought_prompt(user, opening), sampling, self.prefix)
        thought = join_thought(opening, completion.text)
        sampling = self.context.sampling(stop=STOP_REPLY)
        prompt = reply_prompt(user, thought)
        reply = yield self.context.request(key(0), "reply", prompt, sampling, self.prefix)
        extra = {
            "thought": thought,
            "principles": cited_principles(thought, names),
            "tokens": completion.tokens + reply.tokens,
        }
        return [self._answer(key(0), instruction, reply.text, reply.finish_reason, **extra)]

    def _answer(self, key: str, instruction: Record, text: str, finish_reason: str, **fields: Any) -> Record:
        answer: Message = {"role": "assistant", "content": text.strip()}
        question: Message = {"role": "user", "content": instruction.user}
        verdict = Verdict(True, reason=finish_reason)
        return self.context.record(
            key, messages=(question, answer), parents=(instruction.key,), verdict=verdict, **fields
        )

    def skip(self, jobs: int) -> bool:
        """No answer depends on another."""
        self.first = jobs
        return True

    def judge(self, candidate: Record) -> Verdict:
        """Everything is kept; the verdict's reason says how the answer ended."""
        return candidate.verdict

    def accept(self, record: Record) -> None:
        """No state."""


def summarise(answers: dict[Variant, Sequence[Record]], leak: Callable[[str, str], str]) -> dict[str, Any]:
    """Counts a variant and the answers side by side, as `evaluation/held_out.json` holds them.

    `stopped` counts answers that the model ended itself; `leaks` those in which `leak(answer, question)` finds text of
    the constitution. The prompted variant ends by opening the next turn, which counts as stopping.
    """
    variants: dict[str, Any] = {}
    samples: dict[str, dict[str, Any]] = {}
    for variant, records in answers.items():
        leaks = [leak(record.assistant, record.user) for record in records]
        words = [len(record.assistant.split()) for record in records]
        variants[variant] = {
            "label": VARIANTS[variant][1],
            "n": len(records),
            "stopped": sum(record.verdict.reason != "length" for record in records),
            "leaks": sum(map(bool, leaks)),
            "mean_words": round(sum(words) / max(len(words), 1), 1),
        }
        for record, found in zip(records, leaks, strict=True):
            key = record.parents[0]
            sample = samples.setdefault(key, {"key": key, "instruction": record.user, "answers": {}})
            answer = {"text": record.assistant, "finish_reason": record.verdict.reason, "leak": found}
            sample["answers"][variant] = answer | ({"thought": record.thought} if record.thought else {})
    return {"variants": variants, "samples": list(samples.values())}
