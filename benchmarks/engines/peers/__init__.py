"""The engines to compare: where each runs, with which settings of the process, and how to install it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
"""The repository: environments lie there, and `benchmarks` is importable from there in all of them."""


@dataclass(frozen=True)
class Peer:
    """One row of the table.

    `module` has the function `load(job)`; `package` must be importable in the environment whose Python
    $`python_variable` names (`python_default` where it is not set; empty is this one). `dtype` is set where the row
    says so, else the command's holds. `environment` goes to the process, `options` to the peer.
    """

    module: str
    package: str
    install: str
    python_variable: str = ""
    python_default: str = ""
    dtype: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The Python that runs it."""
        if named := os.environ.get(self.python_variable, "") if self.python_variable else "":
            return str(Path(named).absolute())
        return str(ROOT / self.python_default) if self.python_default else sys.executable

    def missing(self) -> str:
        """Why it cannot run here, with how to install it; empty where it can."""
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.package!r}) is None)"
        try:
            found = subprocess.run([self.python, "-c", probe], check=False, capture_output=True).returncode == 0
        except OSError:
            found = False
        return "" if found else f"{self.package} is not installed: {self.install}"

    def process_environment(self, threads: int) -> dict[str, str]:
        """Variables of its process; `{last}` in them is the number of the last core."""
        return {name: value.format(last=threads - 1) for name, value in self.environment.items()}


TRANSFORMERS = "pip install transformers"

PEERS: dict[str, Peer] = {
    "embedded": Peer(f"{__name__}.embedded", "selfalign", "make install", options={"batch_size": 128}),
    "transformers": Peer(
        f"{__name__}.transformers_generate", "transformers", TRANSFORMERS, dtype="float32", options={"batch_size": 16}
    ),
    "transformers-prefix": Peer(
        f"{__name__}.transformers_prefix", "transformers", TRANSFORMERS, options={"batch_size": 16}
    ),
    "transformers-cb": Peer(
        f"{__name__}.transformers_cb",
        "transformers",
        TRANSFORMERS,
        options={"num_blocks": 256, "max_batch_tokens": 512},  # its own choice takes 0.6 of the memory for the cache
    ),
    "vllm": Peer(
        f"{__name__}.vllm",
        "vllm",
        "make vllm-env, or name its Python in $SELFALIGN_VLLM_PYTHON",
        "SELFALIGN_VLLM_PYTHON",
        ".venv-vllm/bin/python",
        environment={
            "VLLM_CPU_OMP_THREADS_BIND": "0-{last}",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_NO_USAGE_STATS": "1",
        },
    ),
    "llama.cpp": Peer(
        f"{__name__}.llama_cpp",
        "xllamacpp",
        "pip install xllamacpp, or name the Python that has it in $SELFALIGN_LLAMA_CPP_PYTHON",
        "SELFALIGN_LLAMA_CPP_PYTHON",
        options={"slots": 16},
    ),
}
"""Rows by name. vLLM runs compiled and bound to all cores, its best on a CPU; llama.cpp and transformers are not tuned
yet, so a comparison with them says little."""
