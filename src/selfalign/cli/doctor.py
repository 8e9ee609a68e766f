"""selfalign doctor."""

from __future__ import annotations

import argparse
import shutil


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def main(options: argparse.Namespace) -> int:
    """What this machine has, and what is missing; status 1 where a run could not start."""
    from selfalign.engines.embedded.loading import INSTALL_DEFAULT, default_gguf, pick_device, pick_dtype
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
    try:
        print(f"default     {default_gguf().name}")
    except UserError:
        print(f"default     not installed: {INSTALL_DEFAULT}")
    return 0
