"""The base model of a training: found, loaded in the right dtype, and checked for the layers that get an adapter."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from selfalign.engines.embedded.loading import pick_device, pick_dtype
from selfalign.errors import UserError

if TYPE_CHECKING:
    import torch


def local_directory(base_model: Path | str) -> str:
    """The absolute path of a model directory; anything else is a UserError."""
    path = Path(base_model).expanduser().resolve()
    if not (path / "config.json").is_file():
        raise UserError(f"no model directory at {path} (it has no config.json)", "selfalign models")
    return str(path)


@contextmanager
def readable(base: str) -> Iterator[None]:
    """What transformers says of files that are missing, truncated or of another kind becomes a UserError."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError, UnpicklingError) as fault:
        reason = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
        raise UserError(
            f"cannot load the base model {base}: {reason}", "download it again; selfalign models", 1
        ) from fault


def load_tokenizer(base: str) -> Any:
    """The tokenizer of the directory `base`."""
    from transformers import AutoTokenizer

    with readable(base):
        return AutoTokenizer.from_pretrained(base)


def compute_dtype(dtype: str) -> torch.dtype:
    """What matrix products are computed in. `auto` is bfloat16 where the CPU or GPU computes in it, else float32."""
    if dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"dtype {dtype!r} is not one of auto, float32, bfloat16")
    return pick_dtype(dtype, pick_device())


def load_base(base: str, dtype: torch.dtype, method: str = "lora") -> Any:
    """The base model, ready for `method`; matrix products are in `dtype`.

    lora: the weights are in `dtype`; on a CPU activations stay float32 (see `multiply_in_bfloat16`).
    qlora: 4-bit weights (nf4, their scales quantized too). full: float32 weights, which small steps need.

    Several visible GPUs without a launcher are a UserError: SFTTrainer refuses them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible to one process",
            "selfalign run RECIPE (it starts one process a GPU), or CUDA_VISIBLE_DEVICES=0",
        )
    on_cpu = not torch.cuda.is_available()
    if method == "full" or (on_cpu and sharded()):
        dtype = torch.float32
    settings: dict[str, Any] = quantized(dtype) if method == "qlora" else {}
    with readable(base):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, **settings)
    if on_cpu and dtype == torch.bfloat16:
        multiply_in_bfloat16(model)
    return model


def sharded() -> bool:
    """Whether accelerate runs FSDP, which wants all weights of a layer in one dtype."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")


def check_method(method: str) -> None:
    """`qlora` without CUDA or without bitsandbytes is a UserError."""
    import torch

    if method != "qlora":
        return
    if not torch.cuda.is_available():
        raise UserError("method: qlora needs a CUDA GPU, and there is none", "set method: lora in the recipe")
    if find_spec("bitsandbytes") is None:
        raise UserError("method: qlora needs bitsandbytes, which is not installed", "pip install bitsandbytes")


def quantized(dtype: torch.dtype) -> dict[str, Any]:
    """Loads the base in 4 bits on this process's GPU (QLoRA, arXiv 2305.14314: nf4, double quantization)."""
    import torch
    from transformers import BitsAndBytesConfig

    settings: Any = BitsAndBytesConfig  # its constructor is not typed
    config = settings(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,  # what FSDP shards must be of one dtype
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def multiply_in_bfloat16(model: Any) -> None:
    """Let the frozen linear layers multiply in bfloat16; activations, norms, embedding and head stay float32.

    Rounding the activations between layers to bfloat16 as well lost learning: after 8 steps the validation loss had
    fallen by 0.22 to 0.23 against 0.26 to 0.27 in float32 (SmolLM2-135M, 3 seeds).
    """
    import torch

    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.forward = MethodType(rounded_linear, module)
        else:
            for weight in module.parameters(recurse=False):
                weight.data = weight.data.float()


def rounded_linear(module: Any, x: torch.Tensor) -> torch.Tensor:
    """A linear layer computed in its weight's dtype, from and to the dtype of `x`."""
    from torch.nn.functional import linear

    return linear(x.to(module.weight.dtype), module.weight, module.bias).to(x.dtype)


def check_vocabulary(model: Any, highest: int) -> None:
    """A token id without a row in the embedding is a UserError: the tokenizer is not this model's."""
    rows = model.get_input_embeddings().num_embeddings
    if highest >= rows:
        raise UserError(
            f"the tokenizer gives token id {highest}, and the base model's vocabulary has {rows}",
            "take the tokenizer and the weights from one and the same model",
        )


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
