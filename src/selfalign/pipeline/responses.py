"""Stage responses: the base model answers under the principles, thought first, reply after (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

from selfalign.constitution.rendering import (
    STOP_REPLY,
    STOP_THOUGHT,
    join_thought,
    reply_prompt,
    responses_prefix,
    thought_prompt,
    unthinking_prompt,
)
from selfalign.constitution.schema import Constitution
from selfalign.engines.base import Completion, Request
from selfalign.filters.cites_principle import cited_principles, cites_principle, without_citations
from selfalign.filters.copies_exemplar import CopiesExemplar
from selfalign.filters.mentions_rules import mentions_rules
from selfalign.filters.no_response import no_response
from selfalign.filters.repeats_instruction import repeats_instruction
from selfalign.filters.repetition import cut_repetition, repetition
from selfalign.filters.thought_form import thought_form
from selfalign.filters.too_short import too_short
from selfalign.filters.unfinished import unfinished
from selfalign.pipeline.stage import Barrier, Context, Job, Refused, Steps, first_rejection
from selfalign.recipe import ResponsesOptions
from selfalign.records import Message, Record, Tokens, Verdict


class ResponsesStage:
    """One job an instruction: up to `attempts` thoughts with replies, the first accepted one ends it."""

    def __init__(
        self,
        context: Context,
        options: ResponsesOptions,
        instructions: Sequence[Record],
        model: str = "base",
        shown: Constitution | None = None,
        thinks: bool = True,
    ) -> None:
        """`shown` is the constitution with the exemplars of this round; no answer may copy any of the others either.

        Where it never `thinks`, exemplars and answers stand under the principles alone: what thoughts are worth.
        """
        self.name = context.stage
        self.model = model
        self.context = context
        self.options = options
        self.instructions = instructions
        self.first = 0
        self.thinks = thinks
        self.prefix = responses_prefix(shown or context.constitution, thinks)
        self.opening = context.constitution.templates.thought_opening
        self.names = context.constitution.principle_names
        self.copies_exemplar = CopiesExemplar(context.constitution.exemplar_texts)

    @property
    def goal(self) -> int:
        """One response an instruction."""
        return len(self.instructions)

    def jobs(self) -> Iterator[Job | Barrier]:
        """In the order of the instructions."""
        return self.context.jobs_of(self.instructions, self._steps, self.first)

    def _steps(self, key: Callable[[int], str], instruction: Record) -> Steps:
        candidates: list[Record] = []
        for attempt in range(self.options.attempts):
            try:
                candidate = yield from self._attempt(key(attempt), instruction)
            except Refused as refusal:  # the next attempt would be refused as well
                unanswered = self._candidate(key(attempt), instruction, "", Tokens(), refusal.verdict)
                return [*candidates, unanswered]
            candidates.append(candidate)
            if candidate.verdict.accepted:
                break
        return candidates

    def _attempt(self, key: str, instruction: Record) -> Generator[Request, Completion, Record]:
        if not self.thinks:
            reply = yield self._reply_request(key, unthinking_prompt(instruction.user))
            return self._with_reply(self._candidate(key, instruction, "", Tokens(), Verdict.accept()), reply)
        completion = yield self._thought_request(key, instruction.user)
        thought = join_thought(self.opening, completion.text)
        verdict = self._thought_verdict(thought, completion, instruction.user)
        candidate = self._candidate(key, instruction, thought, completion.tokens, verdict)
        if not verdict.accepted:
            return candidate
        reply = yield self._reply_request(key, reply_prompt(instruction.user, thought))
        return self._with_reply(candidate, reply)

    def _thought_request(self, key: str, user: str) -> Request:
        sampling = self.context.sampling(self.options.thought_tokens, stop=STOP_THOUGHT)
        return self.context.request(key, "thought", thought_prompt(user, self.opening), sampling, self.prefix)

    def _reply_request(self, key: str, prompt: str) -> Request:
        sampling = self.context.sampling(stop=STOP_REPLY, logit_bias=self.options.logit_bias)
        return self.context.request(key, "reply", prompt, sampling, self.prefix)

    def _thought_verdict(self, thought: str, completion: Completion, user: str) -> Verdict:
        """A thought that fails needs no reply. Its citations may be an exemplar's, the rest of it may not."""
        checks: tuple[Callable[[], Verdict], ...] = (
            lambda: thought_form(thought),
            lambda: unfinished(thought, completion.finish_reason),
            lambda: cites_principle(thought, self.names),
            lambda: self.copies_exemplar.judge(without_citations(thought), allowed=user),
        )
        return first_rejection(check() for check in checks)

    def _candidate(self, key: str, instruction: Record, thought: str, tokens: Tokens, verdict: Verdict) -> Record:
        """An attempt that has its thought."""
        question: Message = {"role": "user", "content": instruction.user}
        return self.context.record(
            key,
            messages=(question,),
            thought=thought,
            principles=cited_principles(thought, self.names),
            type=instruction.type,
            topic=instruction.topic,
            parents=(instruction.key,),
            tokens=tokens,
            verdict=verdict,
        )

    def _with_reply(self, candidate: Record, reply: Completion) -> Record:
        """The same with its reply, cut at the first repetition, and the verdict on it."""
        text = cut_repetition(reply.text.strip())
        answer: Message = {"role": "assistant", "content": text}
        return replace(
            candidate,
            messages=(*candidate.messages, answer),
            tokens=candidate.tokens + reply.tokens,
            verdict=self._reply_verdict(text, reply, candidate.user),
        )

    def _reply_verdict(self, text: str, reply: Completion, user: str) -> Verdict:
        """`text` is the reply after the cut at its first repetition."""
        whole = text == reply.text.strip()
        checks: tuple[Callable[[], Verdict], ...] = (
            lambda: no_response(text),
            lambda: repetition(reply.text, self.options.min_words),
            lambda: unfinished(text, reply.finish_reason) if whole else Verdict.accept(),
            lambda: too_short(text, self.options.min_words),
            lambda: repeats_instruction(text, user),
            lambda: mentions_rules(text, self.names),
            lambda: self.copies_exemplar.judge(text, allowed=user),
        )
        return first_rejection(check() for check in checks)

    def skip(self, jobs: int) -> bool:
        """No answer depends on another."""
        self.first = jobs
        return True

    def judge(self, candidate: Record) -> Verdict:
        """The job judged its attempts already: whether there is another depends on it."""
        return candidate.verdict

    def accept(self, record: Record) -> None:
        """No state: responses are judged one by one."""
