"""The delta of an adapter is the adapter: its factors say nothing of the base's weights.

It is copied with the checksums of its base, and without what would give the base away or break elsewhere: embeddings of
the base that PEFT stored beside the factors, and the index that names the base's files on this machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from selfalign.engines.embedded.loading import named_base
from selfalign.weights.adapter import PREFIX, check_fits, read_adapter, read_tensors
from selfalign.weights.checkpoint import Checkpoint, Entry, write_shard
from selfalign.weights.checksums import tensor_checksum
from selfalign.weights.delta import Written, copy_files, hide_places, require_checksum, tensor_checksums
from selfalign.weights.delta_manifest import MANIFEST, check_base, read_manifest, write_manifest
from selfalign.weights.folder import new_folder
from selfalign.weights.link import link_base

FACTORS_FILE = "adapter_model.safetensors"


def write_adapter_delta(adapter: Path, base: Path, base_name: str, output: Path) -> Written:
    """Copy the adapter to `output`, with its base's name and checksums. UserError where it does not fit `base`."""
    with Checkpoint(base) as origin:
        read, named = read_adapter(adapter), Path(named_base(adapter))
        tied = {"lm_head.weight"} - set(origin.places)
        check_fits(read, origin, tied)
        kept = {name: part for name, part in read_tensors(adapter).items() if not is_copy(name, read.copies)}
        with new_folder(output) as folder:
            copy_files(adapter, folder)
            (folder / "config.json").unlink(missing_ok=True)  # the base's own, for the index that is left out
            entries = [Entry(name, tuple(part.shape), part.dtype) for name, part in kept.items()]
            write_shard(folder / FACTORS_FILE, entries, kept.__getitem__)
            set_base(folder, base_name)
            places = {str(place): base_name for place in (base.resolve(), named) if place.is_absolute()}
            hide_places(folder, places | {str(adapter.resolve()): adapter.resolve().name})
            write_manifest(folder, base_name, adapter.resolve().name, tensor_checksums(origin), {})
            add_factors(folder, {name: tensor_checksum(part) for name, part in kept.items()})
            check_factors(folder)
    return Written(output, len(kept), (output / FACTORS_FILE).stat().st_size, [])


def apply_adapter_delta(delta: Path, base: Path, base_name: str, output: Path) -> Written:
    """Copy the adapter to `output`, on `base`, once that has proved to be the base that it was trained on."""
    manifest = read_manifest(delta)
    with Checkpoint(base) as origin:
        check_base(manifest, origin, base_name, delta)
    count = check_factors(delta)
    with new_folder(output) as folder:
        copy_files(delta, folder)
        (folder / MANIFEST).unlink()
        shutil.copyfile(delta / FACTORS_FILE, folder / FACTORS_FILE)
        set_base(folder, str(base.resolve()))
        link_base(base.resolve(), folder)
    return Written(output, count, (output / FACTORS_FILE).stat().st_size, [])


def is_copy(name: str, copies: dict[str, Any]) -> bool:
    """Whether the adapter's tensor `name` is one of the base's."""
    return name.removeprefix(PREFIX).replace(".base_layer.", ".") in copies


def set_base(folder: Path, base: str) -> None:
    """Name the base in `adapter_config.json`."""
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def add_factors(folder: Path, checksums: dict[str, str]) -> None:
    """Put the factors' checksums into the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["factors"] = {name: {"sha256": checksum} for name, checksum in checksums.items()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def check_factors(delta: Path) -> int:
    """How many there are. UserError (exit 1) unless the file has those of the manifest, and no others."""
    factors = read_manifest(delta)["factors"]
    tensors = read_tensors(delta)
    for name in sorted(set(factors) | set(tensors)):
        found = tensor_checksum(tensors[name]) if name in tensors else "absent"
        require_checksum(found, factors.get(name, {"sha256": "absent"}), name, delta)
    return len(factors)
