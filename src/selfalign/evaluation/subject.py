"""What is evaluated: a model under a chat format, or the base model with the principles in its context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from selfalign.constitution.chat_format import ChatFormat
from selfalign.constitution.kept_thought import split_thought
from selfalign.constitution.rendering import (
    STOP_REPLY,
    STOP_THOUGHT,
    join_thought,
    reply_prompt,
    responses_prefix,
    thought_prompt,
    unthinking_prompt,
)
from selfalign.constitution.schema import Constitution, StyleName
from selfalign.engines.base import Completion, Engine, Request, Sampling, Score
from selfalign.records import content_hash, seed_of


class Prompt(NamedTuple):
    """What a model reads, and whether it is of the chat format (its special tokens are read as such then)."""

    text: str
    chat_format: bool


class Answer(NamedTuple):
    """A generated answer. `finish_reason` as a Completion has it; `refusal` says why the engine did not take it."""

    text: str
    finish_reason: str
    refusal: str = ""
    thought: str = ""


@dataclass(frozen=True)
class Subject:
    """A model as it is evaluated.

    `prefix` is empty for a model under its chat format, and the rules and exemplars for the base model under the
    principles, which thinks aloud from `thought_opening` before it answers.
    """

    name: str
    engine: Engine
    chat_format: ChatFormat
    prefix: str = ""
    thought_opening: str = ""

    @property
    def principled(self) -> bool:
        """Whether the principles stand in the context."""
        return bool(self.prefix)

    def prompt(self, question: str, opening: str = "") -> Prompt:
        """A question from the user, open where the reply goes on from `opening`.

        Under the principles no thought stands before it: a text that is scored has none.
        """
        if self.principled:
            return Prompt(self.prefix + unthinking_prompt(question) + opening, False)
        return Prompt(self.chat_format.render([{"role": "user", "content": question}]) + opening, True)

    def raw(self, text: str) -> Prompt:
        """A text to go on from, without chat format; under the principles they stand before it."""
        return Prompt(f"{self.prefix}\n{text}" if self.principled else text, False)

    def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Score]:
        """Of each (prompt, continuation) the score, in order; all prompts must be of one kind."""
        kinds = {prompt.chat_format for prompt, _ in pairs}
        if len(kinds) > 1:
            raise ValueError("prompts of the chat format and raw ones in one call")
        return self.engine.score([(prompt.text, continuation) for prompt, continuation in pairs], kinds == {True})

    def answer(self, questions: Sequence[str], sampling: Sampling, seed: int = 0) -> list[Answer]:
        """An answer to each question, in order. The same seed and questions give the same answers again."""
        if self.principled:
            return self._thoughtful(questions, sampling, seed)
        prompts = [self.prompt(question).text for question in questions]
        completions = self._complete("answer", prompts, sampling, seed, chat_format=True)
        return [answer_of(completion) for completion in completions]

    def _thoughtful(self, questions: Sequence[str], sampling: Sampling, seed: int) -> list[Answer]:
        """Under the principles: a thought, then the reply to the question and the thought."""
        prompts = [thought_prompt(question, self.thought_opening) for question in questions]
        thinking = stopping_at(sampling, STOP_THOUGHT)
        thought = [
            join_thought(self.thought_opening, completion.text)
            for completion in self._complete("thought", prompts, thinking, seed)
        ]
        prompts = [reply_prompt(question, text) for question, text in zip(questions, thought, strict=True)]
        replies = self._complete("reply", prompts, stopping_at(sampling, STOP_REPLY), seed)
        return [answer_of(reply, text) for reply, text in zip(replies, thought, strict=True)]

    def _complete(
        self, step: str, prompts: Sequence[str], sampling: Sampling, seed: int, chat_format: bool = False
    ) -> list[Completion]:
        """A completion of each prompt, in order; equal prompts each get their own."""
        keys = [content_hash([step, seed, number, prompt]) for number, prompt in enumerate(prompts)]
        requests = [
            Request(key, prompt, self.prefix, sampling, seed_of(key), chat_format)
            for key, prompt in zip(keys, prompts, strict=True)
        ]
        found = {completion.key: completion for completion in self.engine.generate(requests)}
        return [found[key] for key in keys]


def subject_of(
    name: str, engine: Engine, constitution: Constitution, style: StyleName = "standard", principled: bool = False
) -> Subject:
    """The subject that `engine`'s model is: under the chat format in `style`, or under the principles."""
    chat_format = engine.chat_format(constitution.style(style))
    if not principled:
        return Subject(name, engine, chat_format)
    return Subject(name, engine, chat_format, responses_prefix(constitution), constitution.templates.thought_opening)


def answer_of(completion: Completion, thought: str = "") -> Answer:
    """The answer of a completion; a thought that the model was trained to write stands apart from it."""
    own, reply = split_thought(completion.text)
    return Answer(reply.strip(), completion.finish_reason, completion.refusal, thought or own)


def stopping_at(sampling: Sampling, stop: tuple[str, ...]) -> Sampling:
    """The same sampling, which ends at one of `stop` too."""
    return replace(sampling, stop=(*sampling.stop, *stop))
