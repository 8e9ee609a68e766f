"""The base model of a training: found, loaded in the right dtype, and checked for the layers that get an adapter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    import torch


def local_directory(base_model: Path | str) -> str:
    """The absolute path of a model directory; anything else is a UserError."""
    path = Path(base_model).expanduser().resolve()
    if not (path / "config.json").is_file():
        raise UserError(f"no model directory at {path} (it has no config.json)", "selfalign models")
    return str(path)


def compute_dtype(dtype: str) -> torch.dtype:
    """The dtype of the frozen base; the adapter's own weights are always float32.

    `auto` is bfloat16 on a GPU that computes in it, and float32 on a CPU. There bfloat16 took 0.6 to 0.8 of the time
    and learnt less: after 8 steps the validation loss had fallen by 0.22 to 0.23 against 0.26 to 0.27 (SmolLM2-135M, 3
    seeds, random words, an EPYC with avx512_bf16). What a GPU does was not measured.
    """
    import torch

    if dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"dtype {dtype!r} is not one of auto, float32, bfloat16")
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def load_base(base: str, dtype: torch.dtype) -> Any:
    """The base model in `dtype`. Several visible GPUs without a launcher are a UserError: SFTTrainer refuses them."""
    import torch
    from transformers import AutoModelForCausalLM

    if torch.cuda.device_count() > 1 and not torch.distributed.is_torchelastic_launched():
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible to one process",
            "CUDA_VISIBLE_DEVICES=0 selfalign run ...",
        )
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)


def check_target_modules(model: Any, wanted: Sequence[str]) -> None:
    """Each of `wanted` must name a linear layer: PEFT itself faults only where none at all is found."""
    import torch

    linear = sorted(
        {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    )
    missing = [name for name in wanted if name not in linear or name == "lm_head"]
    if missing:
        there = ", ".join(name for name in linear if name != "lm_head")
        raise UserError(
            f"target_modules: {', '.join(missing)} cannot get an adapter in {type(model).__name__}; there are {there}",
            "selfalign run RECIPE --set 'engrave.target_modules=[...]'",
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers (`Loading weights`), and not its warning about a name that it uses itself."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # its functions are not typed
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
