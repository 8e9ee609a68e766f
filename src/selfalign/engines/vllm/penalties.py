"""N-gram frequency penalties inside vLLM: a logits processor that vLLM loads by name, in its worker processes.

Only vLLM imports this module, so its imports stand at the top.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from selfalign.engines.ngrams import NgramPenalty
from selfalign.engines.tokenization import Tokenization

if TYPE_CHECKING:
    from torch import Tensor


class NgramPenalties(AdapterLogitsProcessor):  # type: ignore[misc]
    """Takes off each sequence's penalties before temperature and top-p, as the embedded engine does.

    A request asks for it by `extra_args` of its `SamplingParams`: `ngram_penalties`, four numbers, and
    `word_starts_only`. A request without them costs nothing.
    """

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        super().__init__(vllm_config, device, is_pin_memory)
        self._tokenizer_path: str = vllm_config.model_config.tokenizer

    @cached_property
    def tokenization(self) -> Tokenization:
        """Read only where word starts are asked for."""
        return Tokenization(AutoTokenizer.from_pretrained(self._tokenizer_path))

    def is_argmax_invariant(self) -> bool:
        """A penalty changes what greedy decoding takes."""
        return False

    def new_req_logits_processor(self, params: Any) -> SequencePenalty | None:
        """What is applied to a sequence, where its request has penalties."""
        asked = params.extra_args or {}
        if not any(asked.get("ngram_penalties", ())):
            return None
        if asked["word_starts_only"]:
            return SequencePenalty(NgramPenalty(asked["ngram_penalties"], self.tokenization.begins_word))
        return SequencePenalty(NgramPenalty(asked["ngram_penalties"]))


class SequencePenalty:
    """One sequence's penalties. vLLM calls it at each step with all that the sequence has generated."""

    def __init__(self, penalty: NgramPenalty) -> None:
        self.penalty = penalty

    def __call__(self, output_ids: list[int], logits: Tensor) -> Tensor:
        """Change `logits` [V] in place; `output_ids` grow by one between two calls, or stand in whole at the first."""
        for token in output_ids[len(self.penalty.ids) :]:
            self.penalty.add(token)
        amounts = self.penalty.current()
        if amounts:
            logits[list(amounts)] -= logits.new_tensor(list(amounts.values()))
        return logits
