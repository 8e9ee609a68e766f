"""A LoRA adapter as tensors: which of the base's weights it changes, and by what, without loading either model.

What it does to a weight W (rows x columns) is a product of two thin matrices: W + scale * left @ right. PEFT's names
and settings are read; a setting that means something else than that (another method, a changed base) is refused by
name rather than left out. DoRA (arXiv 2402.09353) also gives each row a length of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.errors import UserError
from selfalign.weights.checkpoint import Checkpoint
from selfalign.weights.tensor_files import open_tensors

if TYPE_CHECKING:
    import torch

PREFIX = "base_model.model."
"""PEFT's wrapping, before the base's own module names."""
FACTORS = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
EMBEDDINGS = tuple(
    f"{module}{layer}.weight" for module in ("embed_tokens", "wte", "lm_head") for layer in ("", ".base_layer")
)
"""Where PEFT stores a copy of the base's embeddings, if they have an adapter or the vocabulary was resized."""
KEEPS_BASE = (True, False, None, "gaussian", "eva", "mica")
"""Values of `init_lora_weights` that left the base as it was. PiSSA, OLoRA, LoftQ and others train on a changed one."""
REFUSED = (
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "lora_bias",
    "ensure_weight_tying",
)
"""Settings that are more than a LoRA on weights. Each is refused where it is set."""


class Change(NamedTuple):
    """What the adapter does to one weight."""

    left: torch.Tensor
    """(rows, rank)"""
    right: torch.Tensor
    """(rank, columns)"""
    scale: float
    lengths: torch.Tensor | None = None
    """(rows): DoRA's lengths of the rows after the change; None for a plain LoRA."""

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight."""
        return self.left.shape[0], self.right.shape[1]

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """The changed rows, in float32, of `rows` (from row `start` of the weight on)."""
        left = self.left[start : start + len(rows)].float()
        changed = rows.float() + self.scale * (left @ self.right.float())
        if self.lengths is None:
            return changed
        lengths = self.lengths[start : start + len(rows)].float().flatten()
        return changed * (lengths / changed.norm(dim=1))[:, None]


class Adapter(NamedTuple):
    """An adapter's directory, read."""

    directory: Path
    changes: dict[str, Change]
    """Name of a base weight -> what is done to it."""
    copies: dict[str, torch.Tensor]
    """Weights of the base that PEFT stored beside the factors: embeddings, by their names in the base."""


def read_settings(adapter: Path) -> dict[str, Any]:
    """`adapter_config.json`. UserError for a method, or a setting, that this module does not compute."""
    file = adapter / "adapter_config.json"
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UserError(f"{file} cannot be read: {fault}", "copy or download the adapter again") from fault
    require_numbers(settings, file)
    if settings.get("peft_type") != "LORA":
        raise UserError(f"{adapter} is a {settings.get('peft_type')} adapter; LORA adapters are merged", HINT)
    odd = [f"{name}={settings[name]!r}" for name in REFUSED if settings.get(name)]
    if settings.get("bias", "none") != "none":
        odd.append(f"bias={settings['bias']!r}")
    if settings.get("init_lora_weights", True) not in KEEPS_BASE:
        odd.append(f"init_lora_weights={settings['init_lora_weights']!r}")
    if odd:
        raise UserError(f"{adapter} is more than a LoRA on weights: {', '.join(odd)}", HINT)
    return settings


def require_numbers(settings: Any, file: Path) -> None:
    """UserError where these are no settings of an adapter, or rank and alpha no numbers."""
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings of an adapter", "copy or download the adapter again")
    for name in ("r", "lora_alpha") if settings.get("peft_type") == "LORA" else ():
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{file}: {name} is {value!r}, and a LoRA has a number there", f"correct {file}")


HINT = "merge it with PEFT: AutoPeftModelForCausalLM.from_pretrained(...).merge_and_unload().save_pretrained(...)"


def read_adapter(adapter: Path) -> Adapter:
    """Settings and tensors. UserError for what is no LoRA factor, nor an embedding of the base."""
    settings = read_settings(adapter)
    modules: dict[str, dict[str, torch.Tensor]] = {}
    copies: dict[str, torch.Tensor] = {}
    for name, tensor in read_tensors(adapter).items():
        factor = next((known for known in FACTORS if name.endswith("." + known)), None)
        if not name.startswith(PREFIX) or (factor is None and not name.endswith(EMBEDDINGS)):
            raise UserError(f"{adapter} holds {name}, which is no LoRA factor", HINT)
        if factor is None:
            copies[name[len(PREFIX) :].replace(".base_layer.", ".")] = tensor
        else:
            modules.setdefault(name[len(PREFIX) : -len(factor) - 1], {})[factor] = tensor
    if not modules:
        raise UserError(f"{adapter} holds no LoRA factors", "train it again")
    changes = {f"{module}.weight": change_of(module, parts, settings, adapter) for module, parts in modules.items()}
    return Adapter(adapter, changes, copies)


def read_tensors(adapter: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors. A pickle is read as weights only: code in it is never run, and is a UserError."""
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (adapter / name).is_file():
            handle = open_tensors(adapter / name)
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    raise UserError(f"{adapter} has no weights (adapter_model.safetensors)", "copy or download the adapter again")


def change_of(module: str, parts: dict[str, torch.Tensor], settings: dict[str, Any], adapter: Path) -> Change:
    """One module's change. UserError where factors are missing, not finite, or not of the rank that is set."""
    embedding = "lora_embedding_A" in parts
    first, second = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
    lengths = parts.get("lora_magnitude_vector")
    rank = pattern_value(settings.get("rank_pattern"), module, settings["r"])
    expected = {first, second} | ({"lora_magnitude_vector"} if settings.get("use_dora") else set())
    if set(parts) != expected:
        raise UserError(f"{adapter}: {module} has {', '.join(sorted(parts))}, not {', '.join(sorted(expected))}", HINT)
    down, up = parts[first], parts[second]
    if down.dim() != 2 or up.dim() != 2 or down.shape[0] != rank or up.shape[1] != rank:
        raise UserError(
            f"{adapter}: {module} has factors {tuple(down.shape)} and {tuple(up.shape)}, and its rank is set to {rank}",
            "adapter_config.json and the weights are of two adapters: copy both files from the same one",
        )
    if not all(bool(part.isfinite().all()) for part in parts.values()):
        raise UserError(f"{adapter}: {module} holds NaN or infinite numbers", "train it again", exit_code=1)
    alpha = pattern_value(settings.get("alpha_pattern"), module, settings["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    transposed = embedding or bool(settings.get("fan_in_fan_out"))
    if transposed and lengths is not None:
        raise UserError(f"{adapter}: DoRA on {module}, which lies transposed, is not merged here", HINT)
    return Change(down.T, up.T, scale) if transposed else Change(up, down, scale, lengths)


def pattern_value(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the end of the module's name, from a dot on."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def check_fits(adapter: Adapter, base: Checkpoint, tied: Iterable[str]) -> None:
    """UserError unless every change has a weight of its shape in the base, or in `tied` (made from another there)."""
    hint = f"selfalign weights merge {adapter.directory} --base ITS_BASE --to DIR"
    missing = sorted(set(adapter.changes) - set(base.places) - set(tied))
    if missing:
        raise UserError(
            f"{adapter.directory} was trained for another base: it changes {listed(missing)}, which "
            f"{base.directory} lacks",
            hint,
        )
    for name, tensor in adapter.copies.items():
        check_copy(name, tensor, base, hint, adapter.directory)
    for name, change in adapter.changes.items():
        if name in base and base.entry(name).shape != change.shape:
            raise UserError(
                f"{adapter.directory} was trained for another base: it changes {name} of shape {change.shape}, and in "
                f"{base.directory} its shape is {base.entry(name).shape}",
                hint,
            )


def check_copy(name: str, copy: torch.Tensor, base: Checkpoint, hint: str, adapter: Path) -> None:
    """UserError where an embedding stored with the adapter is not the base's: resized, or trained in full."""
    if name not in base:
        return  # tied to the input embedding, of which there is a copy too
    shape, own = tuple(copy.shape), base.entry(name).shape
    if shape != own:
        raise UserError(
            f"the vocabulary was resized: {adapter} stores {name} of shape {shape}, and in {base.directory} its shape "
            f"is {own}",
            hint,
        )
    weight = base.tensor(name)
    if not bool((copy.to(weight.dtype) == weight).all()):
        raise UserError(f"{adapter} stores {name} with other values than {base.directory}", HINT)


def listed(names: Sequence[str], shown: int = 2) -> str:
    """The first names, and how many more."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
