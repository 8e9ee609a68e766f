"""selfalign doctor."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil

EXTRAS = {
    "serve": (("fastapi", "uvicorn", "gradio"), "selfalign serve"),
    "gguf": (("sentencepiece", "xllamacpp"), "weights to-gguf and parity"),
    "report": (("spacy", "en_core_web_sm"), "a parser for the report's verbs"),
    "vllm": (("vllm",), "engine: vllm"),
    "ray": (("ray",), "engine: ray, launch slurm"),
    "novelty": (("datasketch", "sentence_transformers"), "novelty: minhash or embedding"),
    "qlora": (("bitsandbytes",), "method: qlora"),
}
"""Extra -> what it imports, and what it is for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def main(options: argparse.Namespace) -> int:
    """What this machine has, and what is missing; status 1 where a run could not start."""
    from selfalign.engines.embedded.gguf import INSTALL_DEFAULT, default_gguf
    from selfalign.engines.embedded.loading import pick_device, pick_dtype
    from selfalign.errors import UserError
    from selfalign.pipeline.provenance import machine, versions

    print(f"machine     {machine()}, {shutil.disk_usage('.').free / 2**30:.0f} GiB free here")
    found = versions()
    print("versions    " + ", ".join(f"{name} {version}" for name, version in found.items()))
    missing = [name for name, version in found.items() if version == "not installed"]
    if missing:
        print(f"missing     {', '.join(missing)}: pip install selfalign")
        return 1
    device = pick_device()
    print(f"computes    on {device.type} in {str(pick_dtype('auto', device)).removeprefix('torch.')}")
    print(f"compiler    {compiler()}")
    try:
        print(f"default     {default_gguf().name}")
    except UserError:
        print(f"default     not installed: {INSTALL_DEFAULT}")
    print("\n".join(extras()))
    return 0


def compiler() -> str:
    """Whether the embedded engine can compile its functions for this processor."""
    name = os.environ.get("CC", "cc")
    if path := shutil.which(name):
        return f"{path}: the embedded engine compiles its functions for this processor"
    return f"no {name}: on a CPU the embedded engine takes PyTorch's operators, which are slower; install a C compiler"


def extras() -> list[str]:
    """One line an extra: there, or what it lacks, what that is for, and how to have it."""
    lines = []
    for name, (modules, purpose) in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        state = f"without {', '.join(absent)}: {remedy(name, absent)}" if absent else "installed"
        lines.append(f"extra       {name} ({purpose}) {state}")
    return lines


def remedy(extra: str, absent: list[str]) -> str:
    """The command that installs what an extra lacks."""
    from selfalign.report.verbs import INSTALL

    return INSTALL if "en_core_web_sm" in absent else f"pip install 'selfalign[{extra}]'"
