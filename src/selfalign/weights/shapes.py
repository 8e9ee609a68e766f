"""What of a model's config bears on splitting it over devices: read once, from whatever holds a config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from selfalign.engines.embedded.gguf import DEFAULT_MODEL
from selfalign.engines.embedded.loading import resolve_model
from selfalign.errors import UserError

PADDABLE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3")
"""Model types for which zero-padding is exact and tested: projections apart from one another, and any norm over queries
and keys taken within a head (OLMo 2 norms over all heads at once, where added zeros change the mean)."""

HEADS_DIVIDE_HIDDEN = ("gemma2", "gemma3_text")
"""Types whose config class refuses (transformers 5.23) a number of heads that does not divide the hidden size, whatever
`head_dim` says, and that have no other form. Llama refuses it too, and is written in another form."""

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Shape(NamedTuple):
    """The sizes of a decoder. `heads` are query heads, `kv_heads` key/value heads."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    """Width of the feed-forward; 0 where the config names none."""
    vocabulary: int
    context: int
    """Longest sequence in tokens; 0 where the config names none."""
    tied: bool
    heads_within: int = 0
    """A number that the query heads must divide; 0 where any will do."""
    unsplittable: str = ""
    """Why zero-padding is refused; empty where it is exact."""


def read_config(model: str) -> Any:
    """The transformers config of MODEL: a directory with nothing but config.json will do, or that file, or a Hub id."""
    from transformers import AutoConfig

    place = config_place(model)
    try:
        return AutoConfig.from_pretrained(place)
    except (OSError, ValueError, KeyError) as fault:
        reason = next(iter(str(fault).splitlines()), type(fault).__name__)
        raise UserError(f"cannot read the config of {model}: {reason}", "selfalign models") from fault


def config_place(model: str) -> str:
    """Where config.json of MODEL is. Weights are not needed; of a Hub model only the config is downloaded."""
    path = Path(model).expanduser()
    if path.name == "config.json" and path.is_file():
        return str(path.parent)
    if (path / "config.json").is_file() and not (path / "adapter_config.json").is_file():
        return str(path)
    if path.exists() or model == DEFAULT_MODEL:
        return resolve_model(model).base
    if path.is_absolute() or model.startswith(("./", "../", "~")):
        raise UserError(f"{model} is not there", "name a model directory or a Hub id; selfalign models")
    return model


def is_adapter(model: str) -> bool:
    """Whether MODEL is an adapter, or a run whose model is one."""
    path = Path(model).expanduser()
    if (path / "run.json").is_file():
        return resolve_model(model).adapter is not None
    return (path / "adapter_config.json").is_file()


def shape_of(config: Any) -> Shape:
    """The sizes, from a transformers config. UserError where it is no decoder with attention heads."""
    text = config.get_text_config()
    heads, hidden = getattr(text, "num_attention_heads", None), getattr(text, "hidden_size", None)
    layers = getattr(text, "num_hidden_layers", None)
    if not (isinstance(heads, int) and isinstance(hidden, int) and isinstance(layers, int)):
        raise UserError(
            f"{config.model_type} names no attention heads, layers and hidden size in its config", "selfalign models"
        )
    return Shape(
        model_type=text.model_type,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or hidden // heads,
        intermediate=width if isinstance(width := getattr(text, "intermediate_size", 0), int) else 0,
        vocabulary=getattr(text, "vocab_size", 0),
        context=getattr(text, "max_position_embeddings", 0) or 0,
        tied=bool(getattr(text, "tie_word_embeddings", False)),
        heads_within=hidden if text.model_type in HEADS_DIVIDE_HIDDEN else 0,
        unsplittable=why_unsplittable(config),
    )


def why_unsplittable(config: Any) -> str:
    """Why zero-padding this model is refused; empty where it is exact."""
    if config.model_type not in PADDABLE:
        return f"model type {config.model_type} is not among those whose padding is tested ({', '.join(PADDABLE)})"
    if getattr(config, "quantization_config", None):
        return "its weights are quantized in blocks that padding would cut"
    if config.num_attention_heads % (getattr(config, "num_key_value_heads", None) or config.num_attention_heads):
        return "its query heads are no multiple of its key/value heads"
    if config.model_type == "qwen2" and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it is a qwen2 with sliding windows, which has no padded form that vLLM reads"
    return ""
