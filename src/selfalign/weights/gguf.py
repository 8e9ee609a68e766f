"""A model as one GGUF file, as llama.cpp and what is built on it load it: weights, tokenizer, chat template and EOS.

An adapter is merged first, in the base's own dtype, so that the file holds the weights that `selfalign weights merge`
writes. The chat template goes in as it is: llama.cpp reads over the `{% generation %}` marks (build 10605 and later).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.engines.embedded.loading import Source, load_tokenizer, resolve_model
from selfalign.errors import UserError
from selfalign.weights.checkpoint import Checkpoint
from selfalign.weights.folder import sync
from selfalign.weights.gguf_converter import TYPES, convert, converter
from selfalign.weights.gguf_quants import FILE_TYPES, load_kernels, quantize
from selfalign.weights.merge import merge_adapter

KINDS = (*TYPES, *FILE_TYPES)
"""What `--type` takes."""
UNQUANTIZED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""GGUF's name of an unquantised type -> torch's."""


class GgufFile(NamedTuple):
    """What a GGUF file says of itself."""

    file: Path
    weights: str
    """The type that most of its weights have: `BF16`, `Q8_0`, ..."""
    nbytes: int
    eos_token_id: int | None
    chat_template: str | None


def to_gguf(model: str, output: Path, kind: str = "f16", pre_tokenizer: str = "") -> GgufFile:
    """Write MODEL to the file `output`, its matrices of type `kind` (one of KINDS); it appears whole or not at all.

    UserError where the type is unknown, a package is missing, `output` is there already, or the converter gives up.
    """
    kind = kind.lower()
    if kind not in KINDS:
        raise UserError(f"--type {kind} is none of {', '.join(KINDS)}", "selfalign weights to-gguf MODEL --to F.gguf")
    if output.exists():
        raise UserError(f"{output} is there already", "name a new file, or remove that one")
    converter()
    if kind in FILE_TYPES:
        load_kernels()
    source = resolve_model(model)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as room:
            written = write_gguf(source, Path(room), output.stem, kind, pre_tokenizer)
            found = read_gguf(written)
            require_companions(found, load_tokenizer(source), source.name)
            sync(written)
            os.replace(written, output)
    except OSError as fault:
        raise UserError(
            f"cannot write {output}: {fault.strerror or fault}", "free some space and run the same command again", 1
        ) from fault
    return found._replace(file=output)


def write_gguf(source: Source, room: Path, name: str, kind: str, pre_tokenizer: str) -> Path:
    """The file, somewhere in the directory `room`, which holds the merged model for as long as it is needed."""
    first = kind if kind in TYPES else "bf16"
    with merged(source, room, "float32" if kind == "f32" else None) as folder:
        convert(folder, room / "converted.gguf", first, name, pre_tokenizer)
    if kind == first:
        return room / "converted.gguf"
    quantize(room / "converted.gguf", room / "quantized.gguf", kind)
    return room / "quantized.gguf"


@contextmanager
def merged(source: Source, room: Path, dtype: str | None) -> Iterator[Path]:
    """A model directory without an adapter: the source's own, or one merged into `room` that goes at the end."""
    if source.adapter is None:
        with Checkpoint(source.base) as checkpoint:
            checkpoint.check()  # the converter would tell of a missing shard by a traceback
        yield Path(source.base)
        return
    with tempfile.TemporaryDirectory(dir=room) as place:
        yield merge_adapter(source, Path(place) / "merged", dtype).directory


def read_gguf(file: Path) -> GgufFile:
    """Read the head of a GGUF file: 2 s for a vocabulary of 50,000. UserError where it is none."""
    import gguf

    try:
        reader = gguf.GGUFReader(file)
    except (OSError, ValueError, KeyError, IndexError) as fault:
        raise UserError(f"{file} cannot be read as GGUF: {fault}", "convert the model again") from fault
    sizes: dict[str, int] = {}
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    eos, template = (field_of(reader, name) for name in ("tokenizer.ggml.eos_token_id", "tokenizer.chat_template"))
    return GgufFile(file, max(sizes, key=sizes.__getitem__, default="none"), file.stat().st_size, eos, template)


def field_of(reader: Any, name: str) -> Any:
    """A metadata field's value, or None."""
    field = reader.fields.get(name)
    return None if field is None else field.contents()


def require_companions(found: GgufFile, tokenizer: Any, name: str) -> None:
    """UserError unless the file ends a turn with the tokenizer's EOS and has its chat template, word for word."""
    if found.eos_token_id != tokenizer.eos_token_id:
        raise UserError(
            f"{name}: the converter wrote EOS {found.eos_token_id}, the tokenizer ends a text with "
            f"{tokenizer.eos_token_id} ({tokenizer.eos_token})",
            "check eos_token in tokenizer_config.json, and eos_token_id in config.json",
            exit_code=1,
        )
    if found.chat_template != tokenizer.chat_template:
        raise UserError(
            f"{name}: the converter did not take over the chat template", "check chat_template.jinja", exit_code=1
        )
