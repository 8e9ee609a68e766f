"""selfalign models."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def main(options: argparse.Namespace) -> int:
    """What may stand where a command takes MODEL, and what is here already."""
    from selfalign.engines.embedded.cache_directory import cache_directory
    from selfalign.engines.embedded.gguf import DEFAULT_MODEL, INSTALL_DEFAULT, default_gguf
    from selfalign.errors import UserError

    try:
        state = f"installed ({default_gguf().name})"
    except UserError:
        state = f"not installed: {INSTALL_DEFAULT}"
    print("MODEL may be")
    print(f"  {DEFAULT_MODEL:24} the embedded default, {state}")
    print("  Qwen/Qwen3-0.6B-Base     any Hub id of a causal language model with full attention")
    print("  path/to/model            a model directory (safetensors and tokenizer), or a .gguf file")
    print("  path/to/adapter          a PEFT adapter directory")
    print("  runs/NAME                a run: its final model, or else its engraved one")
    runs = sorted(path.parent for path in Path("runs").glob("*/run.json"))
    print("\nruns here:  " + (", ".join(map(str, runs)) or "none"))
    print(
        f"converted:  {cache_directory()}: "
        + (", ".join(sorted(p.name for p in converted(cache_directory()))) or "none")
    )
    return 0


def converted(cache: Path) -> list[Path]:
    """Model directories made from GGUF files."""
    return [path.parent for path in cache.glob("*/config.json") if not path.parent.name.startswith(".")]
