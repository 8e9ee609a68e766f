"""llama.cpp's server in a process of its own, until it is told to stop.

    PYTHON -m benchmarks.serving.llama_cpp_server SETTINGS.json

Settings: `file`, `port`, `threads`, `slots`, `context` (tokens a slot), and any field of xllamacpp's CommonParams.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def start(settings: dict[str, Any]) -> Any:
    """The server, with the model loaded."""
    import xllamacpp

    fields = dict(settings)
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = fields.pop("file")
    parameters.n_parallel = slots = int(fields.pop("slots"))
    parameters.n_ctx = slots * int(fields.pop("context"))
    threads = int(fields.pop("threads"))
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    for name, value in fields.items():
        setattr(parameters, name, value)
    return xllamacpp.Server(parameters)


def main(settings: str) -> None:
    """Wait for SIGTERM; the server's own threads do not end by themselves."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = start(json.loads(Path(settings).read_text(encoding="utf-8")))
    print(server.listening_address, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
