"""Where is kept what is made once for all runs: converted models, compiled kernels, padded weights, templates."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """$SELFALIGN_CACHE, else selfalign/ under $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SELFALIGN_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "selfalign"
