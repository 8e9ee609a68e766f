"""Sequences that are decoded together under one shared prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.engines.base import Completion, FinishReason, Request
from selfalign.engines.embedded.attention import AttentionState, TailCache
from selfalign.engines.embedded.sampling import NgramPenalty, choose
from selfalign.records import Tokens

if TYPE_CHECKING:
    from torch import Tensor

STOP_WINDOW = 24
"""Tokens looked back at for a stop string: one of up to that many bytes is found across token boundaries too."""

COMPACT_BELOW = 0.75
"""Finished rows are dropped once fewer than this share is alive: each drop copies the whole cache of the batch."""


MASKED = -1e9
"""Added to a score that must not count. Finite in bfloat16 too: a padded query that sees -inf alone gives NaN."""


class Prefix(NamedTuple):
    """A shared prefix: its length in tokens, and per layer its keys and values [1, kv_heads, P, head_dim]."""

    length: int
    layers: list[tuple[Any, Any]]


class Row:
    """One request being decoded: `prompt` is its own part, after the prefix; `limit` its most new tokens."""

    def __init__(self, request: Request, prompt: list[int], bias: dict[int, float], limit: int) -> None:
        import torch

        self.request = request
        self.prompt = prompt
        self.bias = bias
        self.limit = limit
        self.ids: list[int] = []
        self.done = False
        self.penalty = NgramPenalty(request.sampling.ngram_penalties)
        self.uniform = torch.rand(limit, generator=torch.Generator().manual_seed(request.seed)).tolist()

    def adjust(self, logits: Tensor) -> None:
        """Add bias and take off penalties, in place; logits [V]."""
        for token, amount in self.bias.items():
            logits[token] += amount
        penalties = self.penalty.current()
        if penalties:
            logits[list(penalties)] -= logits.new_tensor(list(penalties.values()))

    def take(self, token: int) -> None:
        """Append a token."""
        self.ids.append(token)
        self.penalty.add(token)


class Batch:
    """Left-padded rows, decoded step by step until each has ended."""

    def __init__(self, model: Any, tokenizer: Any, prefix: Prefix, rows: Sequence[Row], ends: set[int]) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prefix = prefix
        self.rows = list(rows)
        self.ends = ends

    def run(self) -> Iterator[tuple[Row, Completion | None]]:
        """Yields a row after each of its tokens, with its completion after the last."""
        import torch

        with torch.inference_mode():
            logits = self._prefill()
            while True:
                for row, token in zip(list(self.rows), self._sample(logits).tolist(), strict=True):
                    if not row.done:
                        completion = self._take(row, token)
                        yield row, completion
                if all(row.done for row in self.rows):
                    return
                self._compact()
                logits = self._step()

    def text(self, row: Row) -> str:
        """What a row has written so far."""
        return decode(self.tokenizer, row.ids)

    def _take(self, row: Row, token: int) -> Completion | None:
        finish: FinishReason | None = None
        if token in self.ends:
            finish = "eos"
        else:
            row.take(token)
            window = decode(self.tokenizer, row.ids[-STOP_WINDOW:])
            if any(stop in window for stop in row.request.sampling.stop):
                finish = "stop"
            elif len(row.ids) == row.limit:
                finish = "length"
        if finish is None:
            return None
        row.done = True
        text = self.text(row)
        if finish == "stop":
            text = text[: min(at for stop in row.request.sampling.stop if (at := text.find(stop)) >= 0)]
        tokens = Tokens(self.prefix.length + len(row.prompt), len(row.ids) + (finish == "eos"))
        return Completion(row.request.key, text, finish, tokens)

    def _prefill(self) -> Tensor:
        """Feed the prompts; logits [B, V] after their last tokens."""
        import torch

        device = self.model.device
        width = max(len(row.prompt) for row in self.rows)
        length = width + max(row.limit for row in self.rows)
        ids = torch.zeros(len(self.rows), width, dtype=torch.long, device=device)
        valid = torch.zeros(len(self.rows), length, dtype=torch.bool, device=device)
        for index, row in enumerate(self.rows):
            ids[index, width - len(row.prompt) :] = torch.tensor(row.prompt, device=device)
            valid[index, width - len(row.prompt) :] = True
        self.mask = torch.zeros(valid.shape, device=device).masked_fill(~valid, MASKED)
        self.cache = TailCache(self.model.config, len(self.rows), length, self.model.dtype, device)
        positions = (self.prefix.length - 1 + valid[:, :width].cumsum(1)).clamp(min=0)
        self.position = positions[:, -1:]
        causal = torch.full((width, width), MASKED, device=device).triu(1)
        return self._forward(ids, positions, torch.minimum(causal, self.mask[:, None, None, :width]))

    def _step(self) -> Tensor:
        """Feed the last token of every row; logits [B, V]."""
        import torch

        self.position = self.position + 1
        # A row that ended at its first token wrote nothing: its prompt's last token stands in until it is dropped.
        last = [[(row.ids or row.prompt)[-1]] for row in self.rows]
        mask = self.mask[:, None, None, : self.cache.end + 1]
        return self._forward(torch.tensor(last, device=self.model.device), self.position, mask)

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        self.cache.advance(ids.shape[1])
        output = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
            two_part=AttentionState(self.prefix.layers, mask),
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _sample(self, logits: Tensor) -> Tensor:
        import torch

        for index, row in enumerate(self.rows):
            if not row.done:
                row.adjust(logits[index])
        samplings = [row.request.sampling for row in self.rows]
        columns = (
            [sampling.temperature for sampling in samplings],
            [sampling.top_p for sampling in samplings],
            [0.0 if row.done else row.uniform[len(row.ids)] for row in self.rows],
        )
        temperature, top_p, uniform = torch.tensor(columns, device=logits.device).unbind(0)
        return choose(logits, temperature, top_p, uniform)

    def _compact(self) -> None:
        import torch

        alive = [index for index, row in enumerate(self.rows) if not row.done]
        if len(alive) >= COMPACT_BELOW * len(self.rows):
            return
        index = torch.tensor(alive, device=self.model.device)
        self.rows = [self.rows[i] for i in alive]
        self.mask, self.position = self.mask[index], self.position[index]
        self.cache.keep(index)


def decode(tokenizer: Any, ids: list[int]) -> str:
    """Text of generated tokens as it stands, without special tokens."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
