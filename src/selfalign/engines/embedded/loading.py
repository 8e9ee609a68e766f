"""From what a user names to a loaded model: Hub id, directory, adapter, run, GGUF file, or the embedded default."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.engines.embedded.cache_directory import cache_directory
from selfalign.engines.embedded.gguf import DEFAULT_MODEL, converted_gguf, default_gguf
from selfalign.errors import UserError

if TYPE_CHECKING:
    import torch


class Source(NamedTuple):
    """Where a model's weights are: a Hub id or directory, and an adapter directory on top of it, if any."""

    name: str
    base: str
    adapter: Path | None = None

    @property
    def tokenizer_path(self) -> str:
        """The adapter's own tokenizer carries the chat template."""
        return str(self.adapter) if self.adapter and (self.adapter / "tokenizer_config.json").is_file() else self.base


def resolve_model(model: str, base: str = "") -> Source:
    """Find the weights that MODEL names (DESIGN.md section 7). A UserError says what is missing.

    `base` is what an adapter lies on, if it is not where the adapter says.
    """
    if model == DEFAULT_MODEL:
        return Source(model, str(converted_gguf(default_gguf())))
    path = Path(model).expanduser()
    if (path / "run.json").is_file():
        return resolve_run(path, base)
    if path.is_file():
        return Source(model, str(converted_gguf(path)))
    if (path / "adapter_config.json").is_file():
        return resolve_adapter(path, base)
    if path.is_dir():
        return Source(model, str(checked_directory(path)))
    return Source(model, hub_snapshot(model))


def resolve_run(run: Path, base: str = "") -> Source:
    """A run's final model, or else its engraved one; an adapter, or a whole model where every weight was trained."""
    for model in (run / "models" / "final", run / "models" / "engraved"):
        if (model / "adapter_config.json").is_file():
            return resolve_adapter(model, base)
        if (model / "config.json").is_file():
            return Source(str(model), str(checked_directory(model)))
    raise UserError(f"{run} has no model yet", f"selfalign status {run}")


def resolve_adapter(path: Path, base: str = "") -> Source:
    """An adapter and the base that it names, or `base`, which is not asked for where it is given."""
    return Source(str(path), resolve_base(base or named_base(path)), path)


def resolve_base(model: str) -> str:
    """The weights of a whole model; a UserError for an adapter, which is nothing to put another one on."""
    source = resolve_model(model)
    if source.adapter:
        raise UserError(f"{model} is an adapter, and no base", f"name what it was trained on: {source.base}")
    return source.base


def named_base(adapter: Path) -> str:
    """The base that an adapter names. The converted default is found again if its cache was cleared."""
    try:
        base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        if not isinstance(base, str) or not base:
            raise ValueError(f"base_model_name_or_path is {base!r}")
    except (ValueError, KeyError, TypeError, OSError) as fault:
        raise UserError(
            f"{adapter}/adapter_config.json does not name its base model: {fault}",
            "write the base's place or Hub id there, as base_model_name_or_path",
        ) from fault
    if not Path(base).exists() and Path(base).parent == cache_directory():
        return str(converted_gguf(default_gguf()))
    return base


def checked_directory(path: Path) -> Path:
    """A model directory needs a config, weights and a tokenizer."""
    if (path / "delta.json").is_file():
        raise UserError(
            f"{path} is a delta: its weights are a difference", f"selfalign weights apply {path} --base BASE --to DIR"
        )
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is no model directory: it has no config.json", "selfalign models")
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(
            f"{path} has no tokenizer (tokenizer.json)", f"copy the tokenizer files of its base model to {path}"
        )
    if not (any(path.glob("*.safetensors")) or any(path.glob("pytorch_model*.bin"))):
        raise UserError(f"{path} has no weights (*.safetensors)", "download the model again")
    return path


def hub_snapshot(model: str) -> str:
    """The local snapshot of a Hub model, downloaded where there is a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "*.model", "merges.txt", "*.jinja"]
    try:
        return snapshot_download(model, allow_patterns=patterns)
    except HFValidationError as fault:
        raise UserError(
            f"no model at {model!r}: no such file or directory, and no Hub id", "selfalign models"
        ) from fault
    except RepositoryNotFoundError as fault:
        raise UserError(
            f"the Hub has no model {model!r}, or it is private", "check the name, or set HF_TOKEN"
        ) from fault
    except Exception as fault:  # httpx, OS and Hub errors alike mean that the Hub cannot be reached
        raise UserError(
            f"cannot get {model!r} from the Hub: {type(fault).__name__}",
            f"check the network and HF_HUB_OFFLINE, name a local directory, or use base_model: {DEFAULT_MODEL}",
        ) from fault


def load_tokenizer(source: Source) -> Any:
    """The tokenizer, padding on the left."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source.tokenizer_path, padding_side="left")
    except (OSError, ValueError) as fault:
        raise UserError(f"{source.name} has no usable tokenizer: {fault}", "selfalign models") from fault


def load_model(source: Source, dtype: torch.dtype, merge: bool = True, **placement: Any) -> Any:
    """The model in evaluation mode, its adapter merged in, or beside it where `merge` is false.

    `placement` goes to transformers (`device_map` and the like). Weights that cannot be read, or an adapter that does
    not fit, are a UserError.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    place = source.base
    try:
        model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **placement)
        if source.adapter:
            place = str(source.adapter)
            model = with_adapter(model, place, merge)
    # SafetensorError: a truncated file. UnpicklingError: code in a pickle, which is never run. RuntimeError: shapes.
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as fault:
        lines = [line.strip() for line in str(fault).splitlines()[:2]] or [type(fault).__name__]
        raise UserError(f"cannot load {place}: {' '.join(lines)}", "selfalign models") from fault
    return model.eval()


def with_adapter(model: Any, adapter: str, merge: bool = True) -> Any:
    """The model with the adapter of that directory merged in, or beside it."""
    from peft import PeftModel

    with warnings.catch_warnings():  # PEFT asks transformers for an attribute by a name of old
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
        both = PeftModel.from_pretrained(model, adapter)
        return both.merge_and_unload() if merge else both


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it: elsewhere it is emulated and slower than float32."""
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32
