"""The embedded engine: transformers models in this process, one long prefix shared by many short prompts."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.base import Completion, Request, Score
from selfalign.engines.embedded import attention
from selfalign.engines.embedded.batch import Batch, Prefix, Row
from selfalign.engines.embedded.loading import Source, load_model, load_tokenizer, pick_device, pick_dtype
from selfalign.errors import UserError

KEPT_PREFIXES = 4
"""Shared prefixes whose keys and values are kept, the oldest dropped first."""


class EmbeddedEngine:
    """Generates and scores with one transformers model, an adapter merged in where the source has one."""

    def __init__(self, source: Source, *, dtype: str = "auto", batch_size: int = 32) -> None:
        import torch

        self.source = source
        self.device = pick_device()
        self.dtype = pick_dtype(dtype, self.device)
        self.batch_size = batch_size
        self.tokenizer: Any = load_tokenizer(source)
        self.model: Any = load_model(source, self.dtype).to(self.device)
        refuse_sliding_window(self.model.config)
        attention.register()
        self.ends = end_ids(self.tokenizer, self.model)
        self.context_length: int = self.model.config.max_position_embeddings
        self._prefixes: dict[str, Prefix] = {}
        self._no_gradient = torch.inference_mode

    def describe(self) -> dict[str, Any]:
        """Provenance."""
        name = str(self.dtype).removeprefix("torch.")
        return {"kind": "embedded", "model": self.source.name, "dtype": name, "device": self.device.type}

    def chat_format(self, system: str) -> ChatFormat:
        """The chat format in the tokenizer's special tokens."""
        return ChatFormat.of(self.tokenizer, system)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they finish. Requests of one prefix are batched, the longest prompts first."""
        rows = [(request.prefix, self._row(request)) for request in requests]
        rows.sort(key=lambda item: (item[0], -len(item[1].prompt), item[1].request.key))
        for text, group in groupby(rows, key=lambda item: item[0]):
            waiting = [row for _, row in group]
            prefix = self._prefix(text)
            for start in range(0, len(waiting), self.batch_size):
                batch = Batch(self.model, self.tokenizer, prefix, waiting[start : start + self.batch_size], self.ends)
                yield from (completion for _, completion in batch.run() if completion)

    def stream(self, request: Request) -> Iterator[str]:
        """Pieces of one completion. Text that may yet become a stop string, or half a character, is held back."""
        batch = Batch(self.model, self.tokenizer, self._prefix(request.prefix), [self._row(request)], self.ends)
        held = max((len(stop) for stop in request.sampling.stop), default=0)
        sent = 0
        for row, completion in batch.run():
            text = completion.text if completion else batch.text(row).rstrip("\ufffd")
            ready = len(text) if completion else len(text) - held
            if ready > sent:
                yield text[sent:ready]
                sent = ready

    def score(self, pairs: Sequence[tuple[str, str]], chat_format: bool = False) -> list[Score]:
        """Log-probabilities of continuations. Context and continuation are tokenized apart, as generation sees them."""
        encoded = [(self._encode(c, chat_format, begins=True), self._encode(t, chat_format)) for c, t in pairs]
        scores: list[Score] = []
        for start in range(0, len(encoded), self.batch_size):
            scores += self._score_batch(encoded[start : start + self.batch_size])
        return scores

    def close(self) -> None:
        """Free the model and the prefixes."""
        self._prefixes.clear()
        self.model = None
        gc.collect()
        return_freed_memory()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _encode(self, text: str, chat_format: bool, begins: bool = False) -> list[int]:
        """Token ids. Raw text is encoded with special tokens as plain text, and a BOS where the tokenizer adds one."""
        if chat_format:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        else:
            ids = self.tokenizer.encode(text, add_special_tokens=begins, split_special_tokens=True)
        return ids

    def _row(self, request: Request) -> Row:
        prompt = self._encode(request.prompt, request.chat_format, begins=not request.prefix)
        if not prompt:
            raise UserError(f"request {request.key}: the prompt is empty", "give it at least one character")
        used = len(prompt) + (self._prefix(request.prefix).length)
        if used >= self.context_length:
            raise UserError(
                f"a prompt of {used} tokens does not fit the context of {self.context_length} tokens",
                "shorten it, or name a base_model with a longer context",
            )
        bias: dict[int, float] = {}
        for text, amount in request.sampling.logit_bias.items():
            bias[self._encode(text, chat_format=False)[0]] = amount
        return Row(request, prompt, bias, min(request.sampling.max_tokens, self.context_length - used))

    def _prefix(self, text: str) -> Prefix:
        """Keys and values of a shared prefix, computed once."""
        if text not in self._prefixes:
            while len(self._prefixes) >= KEPT_PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[text] = self._compute_prefix(text) if text else Prefix(0, [])
        self.model.set_attn_implementation(attention.NAME)
        return self._prefixes[text]

    def _compute_prefix(self, text: str) -> Prefix:
        import torch
        from transformers import DynamicCache

        ids = torch.tensor([self._encode(text, chat_format=False, begins=True)], device=self.device)
        if ids.shape[1] >= self.context_length:
            raise UserError(
                f"the shared prompt has {ids.shape[1]} tokens, the context holds {self.context_length}",
                "shorten the constitution, or name a base_model with a longer context",
            )
        cache = DynamicCache(config=self.model.config)
        self.model.set_attn_implementation("sdpa")
        with self._no_gradient():
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return Prefix(ids.shape[1], [(layer.keys.contiguous(), layer.values.contiguous()) for layer in cache.layers])

    def _score_batch(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Score]:
        import torch

        width = max(len(context) + len(continuation) for context, continuation in pairs)
        ids = torch.zeros(len(pairs), width, dtype=torch.long, device=self.device)
        mask = torch.zeros_like(ids)
        for row, (context, continuation) in enumerate(pairs):
            joined = context + continuation
            ids[row, : len(joined)] = torch.tensor(joined, device=self.device)
            mask[row, : len(joined)] = 1
        self.model.set_attn_implementation("sdpa")
        with self._no_gradient():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        scores = []
        for row, (context, continuation) in enumerate(pairs):
            span = logits[row, len(context) - 1 : len(context) + len(continuation) - 1].float().log_softmax(-1)
            target = torch.tensor(continuation, device=self.device)
            total = float(span.gather(1, target[:, None]).sum())
            scores.append(Score(total, len(continuation), bool((span.argmax(-1) == target).all())))
        return scores


def return_freed_memory() -> None:
    """Give the heap's free pages back to the system, where the C library can: training is about to want them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def end_ids(tokenizer: Any, model: Any) -> set[int]:
    """Tokens that end a completion: the model's EOS, and any other control token, which raw text never holds."""
    eos = model.generation_config.eos_token_id
    named = eos if isinstance(eos, list) else [eos]
    return {token for token in [*named, *tokenizer.all_special_ids] if token is not None}


def refuse_sliding_window(config: Any) -> None:
    """Layers that see only a window of keys cannot share a prefix by one product over all of it."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UserError(
            f"{config.model_type} has layers of {', '.join(sorted(kinds))}; the embedded engine needs full attention",
            "name another base_model, such as Qwen/Qwen3-0.6B-Base",
        )
