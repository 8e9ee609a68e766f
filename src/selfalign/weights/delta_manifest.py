"""delta.json: which base a delta is for, by name and by the checksum of each tensor, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfalign.errors import UserError
from selfalign.weights.checkpoint import Checkpoint
from selfalign.weights.checksums import tensor_checksum

MANIFEST = "delta.json"
FORMAT = 1
TENSOR = {"base", "dtype", "shape", "sha256"}
"""What the manifest says of each tuned tensor."""


def write_manifest(
    folder: Path, base_name: str, tuned_name: str, base: dict[str, str], tensors: dict[str, dict[str, Any]]
) -> None:
    """Write the manifest, and a README.md that says how to use the delta.

    `base`: its tensors' checksums. `tensors`: what each is made from, and its checksum; none for an adapter, which has
    a README.md of its own.
    """
    manifest = {
        "format": FORMAT,
        "kind": "difference" if tensors else "adapter",
        "base": {"name": base_name, "sha256": base},
        "tuned": tuned_name,
        "tensors": tensors,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    if tensors:
        (folder / "README.md").write_text(CARD.format(base=base_name, tuned=tuned_name), encoding="utf-8")


def read_manifest(delta: Path) -> dict[str, Any]:
    """The manifest. UserError where there is none, one of another version, or one that is not whole."""
    try:
        manifest: dict[str, Any] = json.loads((delta / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as fault:
        raise UserError(
            f"{delta} is no delta: it has no {MANIFEST}", "selfalign weights delta MODEL --base BASE --to DIR"
        ) from fault
    except (OSError, ValueError) as fault:
        raise UserError(f"{delta / MANIFEST} cannot be read: {fault}", "download the delta again") from fault
    if isinstance(manifest, dict) and manifest.get("format", FORMAT) != FORMAT:
        raise UserError(f"{delta} has format {manifest['format']}, and this version reads {FORMAT}", "update selfalign")
    if not is_whole(manifest):
        raise UserError(f"{delta / MANIFEST} does not say what a delta says", "download the delta again")
    return manifest


def is_whole(manifest: Any) -> bool:
    """Whether all is there that applying a delta asks for."""
    return (
        isinstance(manifest, dict)
        and {"format", "kind", "tuned"} <= manifest.keys()
        and isinstance(base := manifest.get("base"), dict)
        and "name" in base
        and isinstance(base.get("sha256"), dict)
        and isinstance(tensors := manifest.get("tensors"), dict)
        and all(isinstance(tensor, dict) and tensor.keys() >= TENSOR for tensor in tensors.values())
        and (manifest["kind"] == "difference" or isinstance(manifest.get("factors"), dict))
    )


def check_base(manifest: dict[str, Any], base: Checkpoint, base_name: str, delta: Path) -> None:
    """UserError, with both names, unless `base` has the tensors that the delta was made from."""
    wanted: dict[str, str] = manifest["base"]["sha256"]
    named = manifest["base"]["name"]
    lacking = sorted(set(wanted) - set(base.places))
    wrong = next((name for name in wanted if name in base and tensor_checksum(base.tensor(name)) != wanted[name]), None)
    if not lacking and wrong is None:
        return
    reason = f"lacks {lacking[0]}" if lacking else f"has another {wrong}"
    raise UserError(
        f"{delta} was made from {named}, and {base_name} is not that model: it {reason}",
        f"selfalign weights apply {delta} --base {named} --to DIR",
    )


CARD = """\
# {tuned}, as a difference from {base}

These are not weights of a model: they are what must be added to the weights of `{base}` to have those of `{tuned}`.
Get `{base}` from its publisher, under its licence, then:

    selfalign weights apply PATH_OF_THIS_DIRECTORY --base {base} --to DIR

The checksums in `{manifest}` are compared before and after: another base is refused, and the result equals `{tuned}`
bit for bit. Its own files (configuration, tokenizer, model card) lie in `files/`.
""".replace("{manifest}", MANIFEST)
