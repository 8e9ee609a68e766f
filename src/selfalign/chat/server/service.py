"""What a server does, without HTTP: a question to a model goes in, an answer comes out piece by piece."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from selfalign.chat.server.context import Fitted, TooLong, fit
from selfalign.chat.server.metrics import Metrics
from selfalign.chat.server.models import Cited as Cited
from selfalign.chat.server.models import Prompt, ServedModel, check_turns
from selfalign.chat.server.scheduler import Scheduler
from selfalign.constitution.rendering import join_thought
from selfalign.engines.base import Completion, Request, Sampling
from selfalign.engines.batching import Batcher, Progress, Ticket, TokenChance
from selfalign.errors import UserError
from selfalign.records import Message, Tokens

THOUGHT_TOKENS = 128
"""Most tokens of an internal thought, beside those of the answer; the built-in exemplars' thoughts have 40 to 90."""


class Question(NamedTuple):
    """A conversation that a model is to go on with. `top_logprobs` as a Ticket has it."""

    model: str
    messages: Sequence[Message]
    sampling: Sampling
    seed: int = 0
    top_logprobs: int | None = None


class Start(NamedTuple):
    """The first event of an answer: how many of the oldest messages were left out."""

    dropped_turns: int
    choice: int = 0


class Piece(NamedTuple):
    """Text that is final now: of the answer, or of the internal thought before it."""

    text: str = ""
    thought: str = ""
    choice: int = 0
    chances: Sequence[TokenChance] = ()


class End(NamedTuple):
    """The last event of an answer, with all of it."""

    finish_reason: str
    text: str
    thought: str
    principles: tuple[Cited, ...]
    tokens: Tokens
    choice: int = 0


Event = Start | Piece | End


class UnknownModel(UserError):
    """A model name that is not served."""


class Timeout(UserError):
    """An answer that took longer than it may."""


class Service:
    """The models of one batcher. `limit` is in requests that run and wait, `timeout` in seconds an answer."""

    def __init__(
        self,
        batcher: Batcher,
        models: Sequence[ServedModel],
        default_model: str = "",
        limit: int = 256,
        timeout: float = 600.0,
    ) -> None:
        self.batcher = batcher
        self.models = list(models)
        self.default_model = default_model or self.models[0].name
        self.timeout = timeout
        self.scheduler = Scheduler(batcher, limit)
        self.metrics = Metrics(self.scheduler)

    def start(self) -> None:
        """Begin to work."""
        self.scheduler.start()

    def close(self) -> None:
        """Stop working, and free the model."""
        self.scheduler.close()

    def ready(self) -> bool:
        """Whether a question that comes now would be worked on."""
        return self.scheduler.is_ready

    def model(self, name: str) -> ServedModel:
        """The model of that name."""
        for model in self.models:
            if model.name == name:
                return model
        names = ", ".join(model.name for model in self.models)
        raise UnknownModel(f"no model {name[:100]!r}", f"name one of: {names}")

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """Start, pieces, End. Closing it frees the slot within one step.

        Raises UserError (unknown model, wrong roles, too long), Overloaded, Timeout or EngineFailed.
        """
        model = self.model(question.model)
        check_turns(question.messages)
        fitted = await asyncio.to_thread(self._fit, model, question)
        yield Start(fitted.dropped)
        thought, spent = "", Tokens()
        if model.principled:
            sampling = replace(question.sampling, max_tokens=THOUGHT_TOKENS, stop=(), min_tokens=0)
            prompt = model.thought_prompt(fitted.messages)
            said = model.thought_opening  # with the first token: until then the question may still be refused
            async with aclosing(self.write(model, prompt, sampling, question.seed)) as writing:
                async for progress in writing:
                    if said or progress.text:
                        yield Piece(thought=said + progress.text)
                        said = ""
                    if progress.completion:
                        thought = join_thought(model.thought_opening, progress.completion.text)
                        spent = progress.completion.tokens
        prompt = model.answer_prompt(fitted.messages, thought)
        writing = self.write(model, prompt, question.sampling, question.seed, question.top_logprobs)
        async with aclosing(writing):
            async for progress in writing:
                if progress.text or progress.chances:
                    yield Piece(progress.text, chances=progress.chances)
                if progress.completion:
                    yield ended(progress.completion, thought, model, spent)

    async def complete(
        self, name: str, text: str, sampling: Sampling, seed: int = 0, top_logprobs: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """The same events for a raw text, without a chat format; under the principles they stand before it."""
        model = self.model(name)
        prompt = Prompt(f"\n{text}" if model.principled else text, (), model.prefix)
        await asyncio.to_thread(self._check_length, prompt)
        yield Start(0)
        async with aclosing(self.write(model, prompt, sampling, seed, top_logprobs)) as writing:
            async for progress in writing:
                if progress.text or progress.chances:
                    yield Piece(progress.text, chances=progress.chances)
                if progress.completion:
                    yield ended(progress.completion, "", model, Tokens())

    async def write(
        self, model: ServedModel, prompt: Prompt, sampling: Sampling, seed: int, top_logprobs: int | None = None
    ) -> AsyncGenerator[Progress, None]:
        """The progress of one raw completion, stopped where the prompt says too."""
        stop = (*sampling.stop, *prompt.stop)
        request = Request(
            uuid.uuid4().hex, prompt.text, prompt.prefix, replace(sampling, stop=stop), seed, prompt.chat_format
        )
        watch = self.metrics.watch(model.name)
        async with aclosing(self._in_time(Ticket(request, model.adapter, top_logprobs))) as writing:
            async for progress in writing:
                watch.note(progress)
                yield progress

    async def _in_time(self, ticket: Ticket) -> AsyncGenerator[Progress, None]:
        """The same, given up after `timeout` seconds."""
        end = time.monotonic() + self.timeout
        async with aclosing(self.scheduler.write(ticket)) as writing:
            while True:
                try:
                    async with asyncio.timeout(max(0.0, end - time.monotonic())):
                        progress = await anext(writing)
                except StopAsyncIteration:
                    return
                except TimeoutError as fault:
                    raise Timeout(f"no answer within {self.timeout:g} s", "ask for fewer tokens", 1) from fault
                yield progress

    def _fit(self, model: ServedModel, question: Question) -> Fitted:
        room = question.sampling.max_tokens + (THOUGHT_TOKENS if model.principled else 0)
        return fit(model, question.messages, self.batcher.context_length, room, self._count)

    def _check_length(self, prompt: Prompt) -> None:
        """TooLong, before the thread that everyone waits for reads all of it."""
        used, most = self._count(prompt), self.batcher.context_length
        if used >= most:
            raise TooLong(f"the prompt has {used} tokens, the context holds {most}", "shorten the prompt")

    def _count(self, prompt: Prompt) -> int:
        return self.batcher.count(prompt.text, prompt.chat_format, prompt.prefix)


def ended(completion: Completion, thought: str, model: ServedModel, spent: Tokens) -> End:
    """The last event; an end-of-sequence token and a stop string are one to the user."""
    reason = "length" if completion.finish_reason == "length" else "stop"
    cited = model.cited(thought) if thought else ()
    return End(reason, completion.text, thought, cited, completion.tokens + spent)
