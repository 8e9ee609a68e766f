"""Continuous batching: sequences under one shared prefix, each slot refilled as soon as its sequence has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.engines.base import Completion
from selfalign.engines.embedded.attention import Padded, Prefix, Step
from selfalign.engines.embedded.cache import SlotCache
from selfalign.engines.embedded.histories import BatchHistories, joined
from selfalign.engines.embedded.kernel import kernel_of
from selfalign.engines.embedded.numerics import check_finite
from selfalign.engines.embedded.prefixes import forward
from selfalign.engines.embedded.row import Row
from selfalign.engines.embedded.sampling import choose

if TYPE_CHECKING:
    from torch import Tensor

PROMPT_TOKENS = 2048
"""Tokens of new prompts in one pass, or one prompt: more gain nothing in speed, and cost memory."""


class Written(NamedTuple):
    """A row after one more token, with its completion after the last."""

    row: Row
    completion: Completion | None


class Decoder:
    """Writes rows to their end, at most `slots` at once, in the order given. Those running hold slots 0, 1, 2, ...

    Rows may join (`add`) and leave (`drop`) between two steps: the cache grows with what is there. Where all rows are
    known at once, it is made for the largest and never grows. With `histories`, a row that goes on from one reads only
    what is new.
    """

    def __init__(
        self,
        model: Any,
        prefix: Prefix,
        rows: Iterable[Row],
        ends: set[int],
        slots: int,
        histories: BatchHistories | None = None,
    ) -> None:
        import torch

        self.model = model
        self.kernel = kernel_of(model)
        self.prefix = prefix
        self.histories = histories
        self.waiting = deque(rows)
        self.running: list[Row] = []
        self.slots = min(slots, len(self.waiting)) if self.waiting else slots
        self.end_ids = ends
        self.ends = torch.tensor(sorted(ends), device=model.device)
        slots = self.slots if self.waiting else 0
        self.cache = SlotCache(model.config, slots, longest(self.waiting), model.dtype, model.device)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.running or self.waiting)

    def run(self) -> Iterator[Written]:
        """A row after each of its tokens."""
        while self.is_busy:
            yield from self.step()

    def step(self) -> list[Written]:
        """Every running row after one more token, the rows that take the free slots among them."""
        import torch

        with torch.inference_mode():
            started = self._started()
            if started:  # those that run have their room
                self.cache.grow(len(self.running) + len(started), longest(started))
                started = [row for row in started if not self._goes_on(row)]
            logits = self._logits(started)
            self.running += started
            tokens = self._sample(logits).tolist()
        read = [row.length for row in self.running]
        written = [Written(row, row.take(t, t in self.end_ids)) for row, t in zip(self.running, tokens, strict=True)]
        for slot, (row, completion) in enumerate(written):
            if completion:
                self._remember(slot, row, read[slot])
        self._keep([index for index, (_, completion) in enumerate(written) if completion is None])
        return written

    def add(self, row: Row) -> None:
        """A row more, after those that wait."""
        self.waiting.append(row)

    def drop(self, key: str) -> None:
        """Write no further the row of that request: its slot is free for the next step."""
        self.waiting = deque(row for row in self.waiting if row.request.key != key)
        for slot, row in enumerate(self.running):
            if row.request.key == key:
                self._remember(slot, row, row.length - 1)  # its last token has not been read yet
        self._keep([index for index, row in enumerate(self.running) if row.request.key != key])

    def _started(self) -> list[Row]:
        """The rows that take the free slots now."""
        rows: list[Row] = []
        tokens = 0
        while self.waiting and len(self.running) + len(rows) < self.slots:
            tokens += len(self.waiting[0].prompt)
            if rows and tokens > PROMPT_TOKENS:
                break
            rows.append(self.waiting.popleft())
        return rows

    def _logits(self, started: Sequence[Row]) -> Tensor:
        """One pass: the last token of every running row, then the prompts of those started; logits [rows, V]."""
        import torch

        device, decoding = self.model.device, len(self.running)
        ids = [(row.ids or row.prompt)[-1] for row in self.running]
        slots = list(range(decoding))
        places = [row.length - 1 for row in self.running]
        kept = list(range(decoding))
        for slot, row in enumerate(started, decoding):
            ids += row.prompt
            slots += [slot] * len(row.prompt)
            places += range(len(row.prompt))
            kept.append(len(ids) - 1)
        flat, slot, place, last = (torch.tensor(column, device=device) for column in (ids, slots, places, kept))
        padded = rectangle([len(row.prompt) for row in started], device) if started else None
        step = Step(self.prefix, place, self.cache, slot, decoding, padded)
        rows = [*self.running, *started]
        logits: Tensor = check_finite(self.model, forward(self.model, flat, step, last), lambda: rows[0].request.key)
        return logits if self.kernel and not any(row.needs_logits for row in rows) else logits.float()

    def _goes_on(self, row: Row) -> bool:
        """Let a row whose prompt goes on from a history run, all but its last token read; false where there is none."""
        import torch

        known = self.histories.find(row.prompt[:-1]) if self.histories and len(row.prompt) > 1 else None
        if known is None:
            return False
        slot, device = len(self.running), self.model.device
        self.cache.put(slot, 0, known.history.layers, known.length)
        rest = torch.tensor(row.prompt[known.length : -1], device=device)
        if len(rest):
            places = torch.arange(len(rest), device=device)
            read = SlotCache(self.model.config, 1, len(rest), self.model.dtype, device)
            padded = Padded(places[None], places, None)
            step = Step(joined(self.prefix, known), places, read, torch.zeros_like(places), padded=padded)
            check_finite(self.model, forward(self.model, rest, step, places[-1:]), lambda: row.request.key)
            self.cache.put(slot, known.length, [(k[0], v[0]) for k, v in zip(read.keys, read.values, strict=True)])
        self.running.append(row)
        return True

    def _remember(self, slot: int, row: Row, read: int) -> None:
        """Keep the first `read` tokens of a row for the turn after it."""
        if self.histories:
            self.histories.keep((row.prompt + row.ids)[:read], self.cache, slot)

    def _sample(self, logits: Tensor) -> Tensor:
        """The next token of every running row, [rows]."""
        import torch

        plain = {i: torch.log_softmax(logits[i], -1) for i, row in enumerate(self.running) if row.top is not None}
        for index, row in enumerate(self.running):
            if row.needs_logits:
                row.adjust(logits[index], self.ends)
        columns = (
            [row.request.sampling.temperature for row in self.running],
            [row.request.sampling.top_p for row in self.running],
            [row.uniform[len(row.ids)] for row in self.running],
        )
        temperature, top_p, uniform = torch.tensor(columns, device=logits.device).unbind(0)
        chosen = choose(logits, temperature, top_p, uniform, self.kernel)
        for index, logs in plain.items():
            self.running[index].note(logs, int(chosen[index]))
        return chosen

    def _keep(self, keep: list[int]) -> None:
        """Give up the slots of all running rows but these, in rising order: the last ones move into the gaps."""
        import torch

        with torch.inference_mode():
            for target in range(len(keep)):
                if keep[target] != target:
                    source = keep.pop()
                    keep.insert(target, source)
                    self.cache.move(source, target, self.running[source].length)
        self.running = [self.running[index] for index in keep]


def longest(rows: Iterable[Row]) -> int:
    """Tokens of its own that the longest row may come to; 0 where there is none."""
    return max((len(row.prompt) + row.limit for row in rows), default=0)


def rectangle(lengths: Sequence[int], device: Any, mask: Tensor | None = None) -> Padded:
    """Sequences that stand one after another in the flat row, as rows of a rectangle padded at their ends."""
    import torch

    size = torch.tensor(lengths, device=device)
    columns = torch.arange(max(lengths), device=device)
    starts = size.cumsum(0) - size
    index = starts[:, None] + torch.minimum(columns[None], (size - 1)[:, None])
    cells = (columns[None] < size[:, None]).flatten().nonzero()[:, 0]
    return Padded(index, cells, mask)
