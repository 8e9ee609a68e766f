"""Continuous batching for a server on the embedded engine: users join and leave between steps, adapters take turns.

Requests under one adapter and one shared prefix run in one batch, a lane; the lanes take turns step by step. So one
set of base weights serves every model of a run, and no row is computed under another's adapter. What a chat format
opens every conversation with is such a prefix too: it is read once, and not once a request.
"""

from __future__ import annotations

import copy
import gc
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.base import Request, Sampling, refusal
from selfalign.engines.batching import BatchFailed, Progress, Ticket, TokenChance
from selfalign.engines.embedded.cache import bytes_per_token
from selfalign.engines.embedded.decoder import Decoder, Written
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.histories import Histories
from selfalign.engines.embedded.loading import Source
from selfalign.engines.embedded.memory import free_memory, slots_that_fit
from selfalign.engines.embedded.prefixes import WORTH_SHARING, Prefixes, common_length
from selfalign.engines.embedded.row import Row
from selfalign.engines.streaming import Unfolding, settled
from selfalign.engines.tokenization import Tokenization
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions

logger = logging.getLogger(__name__)

PROBE = Ticket(Request("probe", "The", sampling=Sampling(temperature=0.0, max_tokens=1)))

HISTORIES_SHARE = 20
"""A twentieth of the memory that is free at the start may be taken by earlier turns of conversations."""


class LaneKey(NamedTuple):
    """What the requests of a lane have in common: the adapter, and the ids that all of them begin with."""

    adapter: str
    prefix: tuple[int, ...]


class Reader:
    """What a request's user has been given so far."""

    def __init__(self, row: Row, lane: LaneKey) -> None:
        self.row = row
        self.lane = lane
        self.unfolding = Unfolding(row.tokenization.decode)
        self.sent = self.chances_sent = 0

    def progress(self, written: Written) -> Progress:
        """What the row's newest token adds."""
        row, completion = written
        text = completion.text if completion else self.unfolding.take(row.ids)
        ready = len(text) if completion else settled(text, row.request.sampling.stop)
        piece = text[self.sent : ready]
        self.sent = max(self.sent, ready)
        chances = [self._named(chance) for chance in row.chances[self.chances_sent : len(row.ids)]]
        self.chances_sent += len(chances)
        return Progress(row.request.key, piece, completion, chances)

    def _named(self, chance: Any) -> TokenChance:
        decode = self.row.tokenization.decode
        likeliest = tuple((decode([token]), value) for token, value in chance.likeliest)
        return TokenChance(decode([chance.token]), chance.log_probability, likeliest)


class EmbeddedBatcher:
    """The embedded engine as a `Batcher`. `adapters` are directories by name, beside the weights of `source`."""

    def __init__(
        self, source: Source, options: EngineOptions | None = None, adapters: Mapping[str, Path] | None = None
    ) -> None:
        self.engine = EmbeddedEngine(source, options, adapters)
        self.adapters = self.engine.adapters.names
        self.context_length = self.engine.context_length
        self.lanes: dict[LaneKey, Decoder] = {}
        self.readers: dict[str, Reader] = {}
        self.openings: frozenset[tuple[int, ...]] = frozenset()
        size = bytes_per_token(self.engine.model.config.get_text_config(), self.engine.dtype.itemsize)
        self.histories = Histories(free_memory(self.engine.device) // HISTORIES_SHARE // size)
        self.prefixes = {name: Prefixes(self.engine.model) for name in self.adapters}
        # A tokenizer changes its own settings with every call, and tokens are counted by other threads.
        self._counting = Tokenization(copy.deepcopy(self.engine.tokenizer))
        self._counting_lock = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether any lane has a row."""
        return bool(self.lanes)

    def chat_format(self, system: str) -> ChatFormat:
        """The chat format in the tokenizer's special tokens; its conversations share their opening from now on."""
        with self._counting_lock:
            found = ChatFormat.of(self._counting.tokenizer, system)
            ids = opening(found, self._counting)
        if len(ids) >= WORTH_SHARING:
            self.openings |= {ids}
        return found

    def count(self, text: str, chat_format: bool, prefix: str = "") -> int:
        """Tokens of a prompt, with its prefix."""
        with self._counting_lock:
            own = self._counting.prompt_ids(Request("", text, prefix, chat_format=chat_format))
            return len(own) + len(self._counting.prefix_ids(prefix))

    def add(self, ticket: Ticket) -> None:
        """Take a request in. UserError where it is refused."""
        request = ticket.request
        prefix, prompt = self._split(request)
        used = len(prefix) + len(prompt)
        if reason := refusal(prompt, used, self.context_length):
            raise UserError(reason, "shorten the prompt")
        limit = min(request.sampling.max_tokens, self.context_length - used)
        row = Row(request, self.engine.tokenization, prompt, len(prefix), limit)
        row.top = ticket.top_logprobs
        key = LaneKey(ticket.adapter, prefix)
        lane = self.lanes.get(key) or self._lane(key)
        lane.slots = self._slots(lane, row)
        lane.add(row)
        self.lanes[key] = lane
        self.readers[request.key] = Reader(row, key)

    def drop(self, key: str) -> None:
        """Give a request up. Raises BatchFailed where its slot cannot be filled by another."""
        reader = self.readers.pop(key, None)
        if reader and reader.lane in self.lanes:
            try:
                self.lanes[reader.lane].drop(key)
            except Exception as fault:
                del self.lanes[reader.lane]
                raise self._failed(reader.lane, fault) from fault
        self._close_idle()

    def step(self) -> list[Progress]:
        """One token for every row of the lane whose turn it is, which goes to the end of the line."""
        key = next(iter(self.lanes))
        lane = self.lanes.pop(key)
        try:
            self.engine.adapters.use(key.adapter)
            written = lane.step()
            progress = [self.readers[one.row.request.key].progress(one) for one in written]
        except Exception as fault:  # whatever it is, the other lanes' users shall not feel it
            raise self._failed(key, fault) from fault
        self.lanes[key] = lane
        self._close_idle()
        for one in progress:
            if one.completion:
                del self.readers[one.key]
        return progress

    def probe(self) -> None:
        """A token from the base, in a lane of its own."""
        lane = self._lane(LaneKey("", ()))
        prompt = self.engine.tokenization.prompt_ids(PROBE.request)
        lane.add(Row(PROBE.request, self.engine.tokenization, prompt, 0, 1))
        self.engine.adapters.use("")
        lane.step()

    def close(self) -> None:
        """Free the model, the caches and the prefixes."""
        self.lanes.clear()
        self.readers.clear()
        self.histories.clear()
        for prefixes in self.prefixes.values():
            prefixes.clear()
            prefixes.model = None
        self.engine.close()

    def _split(self, request: Request) -> tuple[tuple[int, ...], list[int]]:
        """(ids that a lane shares, ids after them): the request's own prefix, or the longest opening that fits."""
        tokenization = self.engine.tokenization
        prompt = tokenization.prompt_ids(request)
        if request.prefix:
            return tuple(tokenization.prefix_ids(request.prefix)), prompt
        fitting = (ids for ids in self.openings if len(ids) < len(prompt) and ids == tuple(prompt[: len(ids)]))
        shared = max(fitting, key=len, default=())
        return shared, prompt[len(shared) :]

    def _lane(self, key: LaneKey) -> Decoder:
        """A new lane; its shared prefix is computed under its own adapter."""
        self.engine.adapters.use(key.adapter)
        shared = self.prefixes[key.adapter].get(key.prefix)
        engine, histories = self.engine, self.histories.under(key)
        return Decoder(engine.model, shared, [], engine.ends, engine.options.batch_size, histories)

    def _slots(self, lane: Decoder, row: Row) -> int:
        """Rows that the lane may run at once, the longest deciding. What its cache takes already counts as free."""
        rows = [*lane.running, *lane.waiting, row]
        slots, length = lane.cache.keys[0].shape[0], lane.cache.keys[0].shape[3]
        model = self.engine.model
        held = slots * length * bytes_per_token(model.config.get_text_config(), model.dtype.itemsize)
        fit = slots_that_fit(model, [*rows, *[row] * self.engine.options.batch_size], self.engine.options, held)
        return max(fit, 1)

    def _close_idle(self) -> None:
        """A lane without rows gives its cache back."""
        self.lanes = {key: lane for key, lane in self.lanes.items() if lane.is_busy}

    def _failed(self, lane: LaneKey, fault: Exception) -> BatchFailed:
        """Give all rows of the lane up: those that just joined too, which the decoder may hold nowhere by now."""
        keys = tuple(key for key, reader in self.readers.items() if reader.lane == lane)
        for key in keys:
            del self.readers[key]
        gc.collect()
        logger.error("a step failed under %d requests", len(keys), exc_info=fault)
        hint = getattr(fault, "hint", "") or "send the request again"
        return BatchFailed(getattr(fault, "message", "") or f"{type(fault).__name__}: {fault}", hint, keys)


def opening(chat_format: ChatFormat, tokenization: Tokenization) -> tuple[int, ...]:
    """The ids that every conversation in a chat format begins with: what two unlike questions have in common."""
    unlike = [
        tokenization.encode(chat_format.render([{"role": "user", "content": text}]), chat_format=True)
        for text in ("A", "1")
    ]
    return tuple(unlike[0][: common_length(unlike)])
