"""Stage elaborations: the engraved model answers every instruction at length (paper section 3.4, verbose cloning)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from selfalign.constitution.kept_thought import split_thought
from selfalign.engines.base import Completion
from selfalign.filters.cites_principle import cited_principles
from selfalign.filters.endless_list import cut_list, endless_list
from selfalign.filters.leaks_style import leaks_style
from selfalign.filters.mentions_rules import mentions_rules
from selfalign.filters.no_response import no_response
from selfalign.filters.repeats_instruction import repeats_instruction
from selfalign.filters.repetition import SENTENCE_END, cut_repetition, repetition
from selfalign.filters.too_short import too_short
from selfalign.filters.unfinished import unfinished
from selfalign.pipeline.stage import Barrier, Context, Job, Steps, first_rejection
from selfalign.recipe import ElaborationsOptions
from selfalign.records import Message, Record, Verdict


class ElaborationsStage:
    """One answer for each instruction, those without an accepted response too, under the verbose style."""

    name = "elaborations"
    model = "engraved"

    def __init__(self, context: Context, options: ElaborationsOptions, instructions: Sequence[Record]) -> None:
        self.context = context
        self.options = options
        self.instructions = instructions
        self.first = 0
        self.style = context.constitution.style("verbose")
        self.names = context.constitution.principle_names

    @property
    def goal(self) -> int:
        """One elaboration an instruction."""
        return len(self.instructions)

    def jobs(self) -> Iterator[Job | Barrier]:
        """In the order of the instructions."""
        return self.context.jobs_of(self.instructions, self._steps, self.first)

    def _steps(self, key: Callable[[int], str], instruction: Record) -> Steps:
        question: Message = {"role": "user", "content": instruction.user}
        sampling = self.context.sampling(ngram_penalties=self.options.ngram_penalties)
        system: Message = {"role": "system", "content": self.style}
        written = yield self.context.chat_request(key(0), (system, question), sampling)
        thought, reply = split_thought(written.text)
        completion = replace(written, text=reply)
        text = self._cut(completion)
        answer: Message = {"role": "assistant", "content": text}
        candidate = self.context.record(
            key(0),
            messages=(question, answer),
            thought=thought,
            principles=cited_principles(thought, self.names),
            type=instruction.type,
            topic=instruction.topic,
            parents=(instruction.key,),
            tokens=completion.tokens,
            verdict=self._verdict(text, completion, instruction.user),
        )
        return [candidate]

    def _cut(self, completion: Completion) -> str:
        """The answer up to its first repetition, the limit of its list, or its last whole sentence."""
        text = cut_list(cut_repetition(completion.text.strip()), self.options.max_list_items)
        return cut_to_sentence(text) if completion.finish_reason == "length" else text

    def _verdict(self, text: str, completion: Completion, user: str) -> Verdict:
        checks: tuple[Callable[[], Verdict], ...] = (
            lambda: no_response(text),
            lambda: repetition(completion.text, self.options.min_words),
            lambda: endless_list(completion.text, self.options.max_list_items),
            lambda: self._cut_short(text, completion),
            lambda: repeats_instruction(text, user),
            lambda: leaks_style(text, self.style),
            lambda: mentions_rules(text, self.names),
        )
        return first_rejection(check() for check in checks)

    def _cut_short(self, text: str, completion: Completion) -> Verdict:
        """Of an answer cut at the token limit, whole sentences must be left, and enough of them.

        One that the model ended itself may be short.
        """
        if completion.finish_reason != "length":
            return Verdict.accept()
        if not SENTENCE_END.search(completion.text.strip()):
            return unfinished(text, completion.finish_reason)
        return too_short(text, self.options.min_words)

    def skip(self, jobs: int) -> bool:
        """No answer depends on another."""
        self.first = jobs
        return True

    def judge(self, candidate: Record) -> Verdict:
        """The job judged it, from the whole completion."""
        return candidate.verdict

    def accept(self, record: Record) -> None:
        """No state: elaborations are judged one by one."""


def cut_to_sentence(text: str) -> str:
    """`text` up to its last sentence end or whole line; the text itself where it has none."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]].rstrip() if ends else text
