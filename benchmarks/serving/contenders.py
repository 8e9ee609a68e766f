"""Our server and its peers on one model, under one chat template: all of them read the same prompts."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

from benchmarks.engines.peers import PEERS as ENGINES
from benchmarks.engines.provenance import cores
from benchmarks.serving.messages import TEMPERATURE, TOP_P
from benchmarks.serving.servers import Server, free_port

PEERS = {"transformers": "transformers serve", "llama.cpp": "llama.cpp"}
"""What the command line calls them -> what the table does."""
LLAMA_CPP = ENGINES["llama.cpp"]
STYLE = "standard"
CONTEXT = 512
"""Tokens that a slot of llama.cpp holds: no question with its answer comes near."""
GGUF_TYPE = "q8_0"
TRANSFORMERS_FLAGS = {
    "--continuous-batching": None,
    "--dtype": "bfloat16",
    "--attn-implementation": "sdpa",
    "--cb-num-blocks": "256",  # its own choice takes 0.6 of the memory for the cache
    "--cb-max-batch-tokens": "512",
    "--log-level": "error",
}
ENDLESS = {"eos_token_id": -1, "do_sample": True, "top_k": 0}
"""transformers' generation settings beside those of every request: no end before the last token, and no top-k."""


def ours(model: str, *flags: str) -> Server:
    """`selfalign serve` as a user starts it."""
    port = free_port()
    command = [sys.executable, "-m", "selfalign", "serve", model, "--port", str(port), *flags]
    settings = {"flags": list(flags)}
    return Server("selfalign", command, port, Path(model).name, "/readyz", {}, settings, versions("selfalign", "torch"))


def transformers(folder: Path, new_tokens: int) -> Server:
    """`transformers serve`. Without continuous batching it answers one user after the other."""
    port = free_port()
    model = str(model_folder(folder))
    flags = [word for flag, value in TRANSFORMERS_FLAGS.items() for word in (flag, value) if word]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model, "--port", str(port), *flags]
    config = ENDLESS | {"temperature": TEMPERATURE, "top_p": TOP_P, "max_new_tokens": new_tokens}
    body = {"generation_config": json.dumps(config)}
    found = versions("transformers", "torch")
    return Server(
        PEERS["transformers"], command, port, model, body=body, settings=dict(TRANSFORMERS_FLAGS), versions=found
    )


def llama_cpp(folder: Path, slots: int, gguf_type: str = GGUF_TYPE) -> Server:
    """llama.cpp's server on the model as one GGUF file."""
    from selfalign.weights.gguf import to_gguf

    port, python = free_port(), LLAMA_CPP.python
    file = folder / f"model-{gguf_type}.gguf"
    if not file.exists():
        to_gguf(str(model_folder(folder)), file, gguf_type)
    settings = {"slots": slots, "context": CONTEXT, "threads": cores()}
    place = folder / "llama_cpp.json"
    fixed = {"file": str(file), "port": port, "verbosity": 0}
    place.write_text(json.dumps(settings | fixed), encoding="utf-8")
    command = [python, "-m", "benchmarks.serving.llama_cpp_server", str(place)]
    # Its sampling defaults, top-k 40 and min-p 0.05, are turned off: the others have none.
    body = {"ignore_eos": True, "top_k": 0, "min_p": 0.0}
    return Server(PEERS["llama.cpp"], command, port, "model", body=body, settings=settings | {"gguf": gguf_type})


def make_model_folder(model: str, folder: Path) -> None:
    """The model's files by link, and the chat template of this package: what the peers read prompts with."""
    from selfalign.constitution.chat_format import ChatFormat
    from selfalign.constitution.loading import load_constitution
    from selfalign.engines.embedded.loading import load_tokenizer, resolve_model

    source = resolve_model(model)
    target = model_folder(folder)
    target.mkdir()
    for file in Path(source.base).iterdir():
        if file.name != "chat_template.jinja":
            (target / file.name).symlink_to(file.resolve())
    style = load_constitution("dromedary").style(STYLE)
    template = ChatFormat.of(load_tokenizer(source), style).template
    (target / "chat_template.jinja").write_text(template, encoding="utf-8")


def model_folder(folder: Path) -> Path:
    """Where `make_model_folder` puts the model."""
    return folder / "model"


def versions(*packages: str) -> dict[str, str]:
    """Installed versions."""
    return {name: importlib.metadata.version(name) for name in packages}


def missing(name: str) -> str:
    """Why a server cannot run here, with how to install it; empty where it can."""
    return LLAMA_CPP.missing() if name == PEERS["llama.cpp"] else ""
