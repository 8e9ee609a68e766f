"""Logits that are no numbers: found at once, and named with the layer that made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign.errors import EngineFailed


def check_finite(model: Any, run: Callable[[], Any], whose: Callable[[], str]) -> Any:
    """The logits [n, V] of a forward pass. Raises EngineFailed naming the layer where one overflowed.

    One column is looked at: a hidden state that is not finite makes all its logits so.
    """
    import torch

    logits = run()
    if bool(torch.isfinite(logits[:, 0]).all()):
        return logits
    layer = overflowing_layer(model, run)
    name = str(model.dtype).removeprefix("torch.")
    raise EngineFailed(
        f"the logits of {whose()} are not finite: {layer} overflows {name}",
        "set engine.dtype: float32" if name != "float32" else "check the weights of the model",
    )


def overflowing_layer(model: Any, run: Callable[[], Any]) -> str:
    """The first decoder layer whose output is not finite when the pass is run again."""
    import torch

    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if not bool(torch.isfinite(hidden).all()):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in decoder_layers(model)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the output layer"


def decoder_layers(model: Any) -> list[tuple[str, Any]]:
    """(name, module) of the embedding and of every decoder layer, in order."""
    layers = [(name, module) for name, module in model.named_modules() if name.rpartition(".")[2].isdigit()]
    return [("the embedding", model.get_input_embeddings()), *((name, module) for name, module in layers)]
