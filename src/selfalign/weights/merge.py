"""base + adapter -> one model directory, tensor by tensor, on a machine with less memory than the model.

Each changed weight is computed in float32, in blocks of rows, and rounded once to the dtype in which it is written.
Tied embeddings come apart where the adapter changes one of the two: each is then written with its own values, and
`config.json` says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.engines.embedded.loading import Source
from selfalign.errors import UserError
from selfalign.weights.adapter import Change, check_fits, read_adapter
from selfalign.weights.checkpoint import SHARD_BYTES, Checkpoint, Entry, write_checkpoint
from selfalign.weights.checksums import file_checksums
from selfalign.weights.companions import copy_companions
from selfalign.weights.folder import new_folder, require_space
from selfalign.weights.merge_card import merge_card
from selfalign.weights.proof import Proof, compare_models, require_equal

if TYPE_CHECKING:
    import torch

BLOCK_VALUES = 256 * 1024
"""Values of a block of rows: 1 MiB in float32, of which about four are in memory at once."""
OUTPUT = "lm_head.weight"
ROUNDING = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""Largest difference of a log-probability, in nats, that rounding to a dtype explains; in bfloat16 it was 0.15 on
SmolLM2-135M with the demo's adapter (618 tokens)."""


class Merged(NamedTuple):
    """What was written."""

    directory: Path
    changed: int
    """Weights that the adapter changed."""
    tensors: int
    nbytes: int
    dtype: str
    untied: bool
    """Whether input and output embeddings are now two tensors."""
    proof: Proof | None = None
    """base + adapter against the result, if that was asked for."""


def merge_adapter(
    source: Source,
    output: Path,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    base_name: str | None = None,
    prove: bool = False,
) -> Merged:
    """Write `source` (an adapter and its base) to `output` as one model, in `dtype` or else in the base's own.

    `base_name` is what the card calls the base, where that is not what the adapter calls it.
    UserError, before anything is written, where there is no adapter, or where it and the base do not fit. With `prove`
    both are compared before the result gets its name; UserError (exit 1) where they differ by more than rounding.
    """
    if source.adapter is None:
        raise UserError(f"{source.name} has no adapter: there is nothing to merge", f"selfalign chat {source.name}")
    config = read_config(Path(source.base))
    adapter = read_adapter(source.adapter)
    with Checkpoint(source.base) as base:
        origin = untied_from(base, adapter.changes)
        check_fits(adapter, base, origin)
        check_vocabulary(source, base, input_embedding(base))
        entries = entries_of(base, origin, dtype)
        size = sum(entry.nbytes for entry in entries)
        with new_folder(output) as folder:
            require_space(folder, size, output)
            write_checkpoint(folder, entries, MergedTensors(base, adapter.changes, origin, entries), shard_bytes)
            copy_companions(source, folder)
            named = dtype or main_dtype(entries)
            write_config(folder, config, named, untied=bool(origin))
            card = merge_card(source, base_name, named, file_checksums(source.adapter, Path(source.base), folder))
            (folder / "README.md").write_text(card, encoding="utf-8")
            base.close()
            proof = compare_models(source, folder) if prove else None
            if proof:
                require_equal(proof, ROUNDING[named], f"base + adapter and {output}")
    return Merged(output, len(adapter.changes), len(entries), size, named, bool(origin), proof)


class MergedTensors:
    """Asked for a tensor, gives its merged values in blocks of rows."""

    def __init__(
        self, base: Checkpoint, changes: dict[str, Change], origin: dict[str, str], entries: list[Entry]
    ) -> None:
        self.base, self.changes, self.origin = base, changes, origin
        self.dtypes = {entry.name: entry.dtype for entry in entries}

    def __call__(self, name: str) -> Iterator[torch.Tensor]:
        """The blocks."""
        tensor, change = self.base.tensor(self.origin.get(name, name)), self.changes.get(name)
        if tensor.dim() == 0:
            yield tensor.to(self.dtypes[name])
            return
        rows = max(1, BLOCK_VALUES // max(1, tensor[:1].numel()))
        for start in range(0, len(tensor), rows):
            block = tensor[start : start + rows]
            if change is not None:
                block = change.apply(block, start)
            yield self.rounded(block, name)

    def rounded(self, block: torch.Tensor, name: str) -> torch.Tensor:
        """In the dtype of the output. What does not fit into float16's range is a UserError."""
        dtype = self.dtypes[name]
        if block.dtype == dtype:
            return block
        narrow = block.to(dtype)
        if bool((narrow.isinf() & block.isfinite()).any()):
            raise UserError(f"{name} has values beyond {dtype}'s range", "--dtype bfloat16", exit_code=1)
        return narrow


def entries_of(base: Checkpoint, origin: dict[str, str], dtype: str | None) -> list[Entry]:
    """The tensors to write: the base's, in its order, then those that came apart."""
    import torch

    wanted: torch.dtype | None = getattr(torch, dtype) if dtype else None
    entries = [base.entry(name) for name in base.names]
    entries += [base.entry(old)._replace(name=new) for new, old in origin.items()]
    return [e._replace(dtype=wanted) if wanted and e.dtype.is_floating_point else e for e in entries]


def main_dtype(entries: list[Entry]) -> str:
    """The dtype of the largest tensor, by torch's name."""
    return str(max(entries, key=lambda entry: entry.nbytes).dtype).removeprefix("torch.")


def input_embedding(base: Checkpoint) -> str | None:
    """The name of the token embeddings, if there is exactly one such tensor."""
    found = [name for name in base.names if name.endswith(("embed_tokens.weight", "wte.weight"))]
    return found[0] if len(found) == 1 else None


def untied_from(base: Checkpoint, changes: dict[str, Change]) -> dict[str, str]:
    """Output embedding -> the tensor it is tied to, where the base ties them and the adapter changes either."""
    embedding = input_embedding(base)
    if embedding is None or OUTPUT in base or not {embedding, OUTPUT} & changes.keys():
        return {}
    return {OUTPUT: embedding}


def check_vocabulary(source: Source, base: Checkpoint, embedding: str | None) -> None:
    """UserError where the tokenizer knows ids that the base has no embedding for."""
    from selfalign.engines.embedded.loading import load_tokenizer

    highest = max(load_tokenizer(source).get_vocab().values())
    rows = base.entry(embedding).shape[0] if embedding else None
    if rows is not None and highest >= rows:
        raise UserError(
            f"the vocabulary was resized: the tokenizer of {source.tokenizer_path} has ids up to {highest}, and "
            f"{source.base} has {rows} token embeddings",
            f"selfalign weights merge {source.name} --base THE_RESIZED_BASE --to DIR",
        )


def read_config(base: Path) -> dict[str, Any]:
    """The base's config.json. Quantised weights are a UserError: rounding them again would add to their error."""
    try:
        config: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__}")
    except (OSError, ValueError) as fault:
        raise UserError(f"{base}/config.json cannot be read: {fault}", "download the base again") from fault
    if "quantization_config" in config:
        kind = config["quantization_config"].get("quant_method", "unknown")
        raise UserError(f"{base} is quantised ({kind})", "add --base with the 16-bit model that it was made from")
    return config


def write_config(folder: Path, config: dict[str, Any], dtype: str, untied: bool) -> None:
    """The base's configuration, with what the merge changed."""
    changed = config | {"dtype": dtype} | ({"tie_word_embeddings": False} if untied else {})
    if "torch_dtype" in config:  # the name before transformers 5
        changed["torch_dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(changed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pad_is_eos(source: Source) -> str | None:
    """The token that both ends a text and pads it, if the tokenizer has one so."""
    from selfalign.engines.embedded.loading import load_tokenizer

    tokenizer = load_tokenizer(source)
    same = tokenizer.pad_token_id is not None and tokenizer.pad_token_id == tokenizer.eos_token_id
    return str(tokenizer.eos_token) if same else None
