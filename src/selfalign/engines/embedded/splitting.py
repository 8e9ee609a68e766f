"""Whether a model's attention can be split in two: tried on a few tokens, not guessed from a list of names."""

from __future__ import annotations

from typing import Any

from selfalign.engines.embedded import attention
from selfalign.engines.embedded.attention import Padded, Step
from selfalign.errors import UserError

TOKENS = 12
"""Length of the trial: half of it becomes a shared prefix."""

TOLERANCE = {"float32": 1e-2, "bfloat16": 0.25, "float16": 0.1}
"""Largest difference of logits, as a share of their spread, that rounding explains: a wrong mask gives about 1."""


def check_splittable(model: Any) -> None:
    """Set the split attention. Raises UserError with the model's name and the engine to use where its logits differ."""
    import torch

    ids = torch.arange(1, TOKENS + 1, device=model.device) % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        expected = model(input_ids=ids[None], use_cache=False).logits[0, -1].float()
        try:
            model.set_attn_implementation(attention.NAME)
            reason = unlike(split_logits(model, ids), expected, str(model.dtype).removeprefix("torch."))
        except Exception as fault:  # whatever a model that knows nothing of the step runs into
            reason = str(fault).splitlines()[0][:120] if str(fault) else type(fault).__name__
    if reason:
        raise UserError(
            f"the embedded engine cannot split the attention of {type(model).__name__} ({reason})",
            "use engine: vllm, or another base_model such as Qwen/Qwen3-0.6B-Base",
        )


def split_logits(model: Any, ids: Any) -> Any:
    """Logits [V] after the last token, the first half of the tokens being a shared prefix."""
    import torch

    from selfalign.engines.embedded.prefixes import Prefixes, forward

    half = len(ids) // 2
    places = torch.arange(len(ids) - half, device=ids.device)
    prefix = Prefixes(model).get(ids[:half].tolist())
    step = Step(prefix, places, padded=Padded(places[None], places, None))
    return forward(model, ids[half:], step, places[-1:])()[0].float()


def unlike(found: Any, expected: Any, dtype: str) -> str:
    """How far two sets of logits differ, where that is further than rounding takes them."""
    spread = float(expected.std()) or 1.0
    difference = float((found - expected).abs().max()) / spread
    return "" if difference <= TOLERANCE.get(dtype, 0.25) else f"its logits differ by {difference:.2g} of their spread"
