"""The embedded engine: transformers models in this process, one long prefix shared by many short prompts."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.base import EMPTY_PROMPT, Completion, Request, Score, refusal, too_long
from selfalign.engines.embedded import attention
from selfalign.engines.embedded.adapters import Adapters
from selfalign.engines.embedded.decoder import Decoder
from selfalign.engines.embedded.gates import fuse_gates
from selfalign.engines.embedded.loading import Source, load_model, load_tokenizer, pick_device, pick_dtype
from selfalign.engines.embedded.memory import prepare_heap, return_freed_pages, slots_that_fit
from selfalign.engines.embedded.norms import replace_norms
from selfalign.engines.embedded.packing import pack_linears
from selfalign.engines.embedded.prefixes import WORTH_SHARING, Prefixes, common_length
from selfalign.engines.embedded.rotations import replace_rotations
from selfalign.engines.embedded.row import Row
from selfalign.engines.embedded.scoring import score_pairs
from selfalign.engines.embedded.splitting import check_splittable
from selfalign.engines.streaming import Grown, pieces
from selfalign.engines.tokenization import Tokenization
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions


class Work(NamedTuple):
    """A request with its tokens: those of the prefix that it shares, and its own."""

    request: Request
    prefix: list[int]
    prompt: list[int]


class EmbeddedEngine:
    """Generates and scores with one transformers model, an adapter merged in where the source has one.

    `adapters` (directories by name) are kept beside the weights, for who switches between them; none is in use at
    first.
    """

    def __init__(
        self, source: Source, options: EngineOptions | None = None, adapters: Mapping[str, Path] | None = None
    ) -> None:
        self.source = source
        self.options = options or EngineOptions()
        self.device = pick_device()
        self.dtype = pick_dtype(self.options.dtype, self.device)
        if self.device.type == "cpu":
            prepare_heap()
        self.tokenizer: Any = load_tokenizer(source)
        self.tokenization = Tokenization(self.tokenizer)
        self.adapters = Adapters(load_model(source, self.dtype), adapters or {})
        self.model: Any = self.adapters.model.to(self.device)
        pack_linears(self.model)
        replace_norms(self.model)
        fuse_gates(self.model)
        replace_rotations(self.model)
        attention.register()
        check_splittable(self.model)
        self.ends = self.tokenization.end_ids(self.model.generation_config.eos_token_id)
        self.context_length: int = self.model.config.get_text_config().max_position_embeddings
        self.prefixes = Prefixes(self.model)

    def describe(self) -> dict[str, Any]:
        """Provenance."""
        name = str(self.dtype).removeprefix("torch.")
        return {"kind": "embedded", "model": self.source.name, "dtype": name, "device": self.device.type}

    def chat_format(self, system: str) -> ChatFormat:
        """The chat format in the tokenizer's special tokens."""
        return ChatFormat.of(self.tokenizer, system)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they finish. Requests of one prefix run together, the longest first."""
        taken: list[Work] = []
        for work in map(self._work, requests):
            if reason := self._refusal(work):
                yield Completion.refused(work.request.key, reason)
            else:
                taken.append(work)
        for group in self._groups(taken):
            yield from (completion for _, completion in self._decoder(group).run() if completion)

    def stream(self, request: Request) -> Iterator[str]:
        """Pieces of one completion. Text that may yet become a stop string, or half a character, is held back."""
        work = self._work(request)
        if reason := self._refusal(work):
            raise UserError(reason, "shorten the prompt, or name a base_model with a longer context")
        texts = (
            Grown(completion.text if completion else row.text, completion is not None)
            for row, completion in self._decoder([work]).run()
        )
        yield from pieces(texts, request.sampling.stop)

    def score(self, pairs: Sequence[tuple[str, str]], chat_format: bool = False) -> list[Score]:
        """Log-probabilities of continuations."""
        encoded = [self.tokenization.pair_ids(*pair, chat_format) for pair in pairs]
        for context, continuation in encoded:
            used = len(context) + len(continuation)
            if not context or used > self.context_length:
                raise UserError(too_long(used, self.context_length) if context else EMPTY_PROMPT, "mend the context")
        return score_pairs(self.model, self.prefixes, encoded)

    def close(self) -> None:
        """Free the model and the prefixes."""
        self.prefixes.clear()
        self.model = self.prefixes.model = None
        self.adapters.forget()
        gc.collect()
        return_freed_pages()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _work(self, request: Request) -> Work:
        tokenization = self.tokenization
        return Work(request, tokenization.prefix_ids(request.prefix), tokenization.prompt_ids(request))

    def _refusal(self, work: Work) -> str:
        """Why the request cannot be taken; empty where it can. A prefix that fits nothing is the caller's fault."""
        if len(work.prefix) >= self.context_length:
            raise UserError(
                f"the shared prompt has {len(work.prefix)} tokens, the context holds {self.context_length}",
                "shorten the constitution, or name a base_model with a longer context",
            )
        return refusal(work.prompt, len(work.prefix) + len(work.prompt), self.context_length)

    def _groups(self, works: Sequence[Work]) -> Iterator[list[Work]]:
        """Those of one prefix together, the longest first. Where none is given, what all begin with is one."""
        ordered = sorted(works, key=lambda work: (work.request.prefix, -len(work.prompt), work.request.key))
        for text, members in groupby(ordered, key=lambda work: work.request.prefix):
            group = list(members)
            if not text and len(group) > 1:
                common = common_length([work.prompt[:-1] for work in group])
                if common >= WORTH_SHARING:
                    group = [Work(request, ids[:common], ids[common:]) for request, _, ids in group]
            yield group

    def _decoder(self, group: Sequence[Work]) -> Decoder:
        prefix = self.prefixes.get(group[0].prefix)
        rows = [self._row(work) for work in group]
        slots = slots_that_fit(self.model, rows, self.options)
        return Decoder(self.model, prefix, rows, self.ends, slots)

    def _row(self, work: Work) -> Row:
        used = len(work.prefix) + len(work.prompt)
        limit = min(work.request.sampling.max_tokens, self.context_length - used)
        return Row(work.request, self.tokenization, work.prompt, len(work.prefix), limit)
