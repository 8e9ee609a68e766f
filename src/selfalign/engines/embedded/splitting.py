"""Whether a model's attention can be split in two: tried on a few tokens, not guessed from a list of names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from selfalign.engines.embedded import attention
from selfalign.engines.embedded.attention import Padded, Step
from selfalign.errors import UserError

TOKENS = 12
"""Length of a trial: half of it becomes a shared prefix."""

TRIALS = 3
"""Stretches of the vocabulary that are tried; the best counts, since rounding can upset a model on a strange text."""

TOLERANCE = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.15}
"""Mean difference of logits, as a share of their spread, that rounding explains.

The 135M model in bfloat16 differs by 0.02 to 0.04; by 0.3 to 2 without its prefix.
"""


def check_splittable(model: Any) -> None:
    """Set the split attention. Raises UserError with the model's name and the engine to use where its logits differ."""
    import torch

    texts = trial_texts(model.config.get_text_config().vocab_size, model.device)
    with torch.inference_mode():
        expected = [model(input_ids=ids[None], use_cache=False).logits[0, -1].float() for ids in texts]
        try:
            model.set_attn_implementation(attention.NAME)
            found = [split_logits(model, ids) for ids in texts]
            reason = unlike(found, expected, str(model.dtype).removeprefix("torch."))
        except Exception as fault:  # whatever a model that knows nothing of the step runs into
            reason = str(fault).splitlines()[0][:120] if str(fault) else type(fault).__name__
    if reason:
        raise UserError(
            f"the embedded engine cannot split the attention of {type(model).__name__} ({reason})",
            "use engine: vllm, or another base_model such as Qwen/Qwen3-0.6B-Base",
        )


def trial_texts(vocabulary: int, device: Any) -> list[Any]:
    """Token ids, spread over a stretch of the vocabulary each; its first tokens, often special ones, are left out."""
    import torch

    edges = [vocabulary * (1 + trial) // (2 + TRIALS) for trial in range(TRIALS + 1)]
    return [torch.linspace(start, end - 1, TOKENS, device=device).long() for start, end in pairwise(edges)]


def split_logits(model: Any, ids: Any) -> Any:
    """Logits [V] after the last token, the first half of the tokens being a shared prefix."""
    import torch

    from selfalign.engines.embedded.prefixes import Prefixes, forward

    half = len(ids) // 2
    places = torch.arange(len(ids) - half, device=ids.device)
    prefix = Prefixes(model).get(ids[:half].tolist())
    step = Step(prefix, places, padded=Padded(places[None], places, None))
    return forward(model, ids[half:], step, places[-1:])()[0].float()


def unlike(found: list[Any], expected: list[Any], dtype: str) -> str:
    """How far two lists of logits differ, where that is further than rounding takes them."""
    shares = [
        float((mine - other).abs().mean()) / (float(other.std()) or 1.0)
        for mine, other in zip(found, expected, strict=True)
    ]
    best = min(shares)
    return "" if best <= TOLERANCE.get(dtype, 0.15) else f"its logits differ by {best:.2g} of their spread"
