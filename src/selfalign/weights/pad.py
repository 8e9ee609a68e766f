"""Write a model whose heads and feed-forward divide by a tensor-parallel size, and prove that it is the same model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selfalign.engines.embedded.loading import Source, resolve_model
from selfalign.errors import UserError
from selfalign.weights.checkpoint import Checkpoint, Entry, write_checkpoint
from selfalign.weights.companions import copy_companions
from selfalign.weights.delta import name_of
from selfalign.weights.folder import new_folder
from selfalign.weights.padded_config import padded_form
from selfalign.weights.padding import Slots, Widths, divides, head_slots, padded_widths, place, widen
from selfalign.weights.proof import Proof, compare_models, require_equal
from selfalign.weights.shapes import Shape, read_config, shape_of

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-4
"""Nats, in float32: added terms are zero, but a product of another width may add up the others in another order."""


PRECISE_BELOW = 2 * 2**30
"""Bytes of weights up to which the proof computes in float64, where no order of adding up shows: the difference is 0
then. In float32 it is 0 for most widths of the embedded model, and 1e-4 in a logit of 38 where zeros stand between the
terms of `o_proj`'s sums (groups of 3 split into 2 and 2), because the matrix product cuts its sums elsewhere: summed
head by head, in order, the logits are equal to the bit. Whole groups would be equal too, at 24 heads for 16."""


class Part(NamedTuple):
    """A projection whose width grows: which dimension of its weight, and whether that runs over heads or channels."""

    dim: int
    runs_over: str


PARTS = {
    "self_attn.q_proj": Part(0, "query"),
    "self_attn.k_proj": Part(0, "key_value"),
    "self_attn.v_proj": Part(0, "key_value"),
    "self_attn.o_proj": Part(1, "query"),
    "mlp.gate_proj": Part(0, "channels"),
    "mlp.up_proj": Part(0, "channels"),
    "mlp.down_proj": Part(1, "channels"),
}


class Plan(NamedTuple):
    """All that padding a tensor needs to know."""

    before: Widths
    after: Widths
    head_dim: int
    slots: Slots


class Padded(NamedTuple):
    """What was written, and the proof that it computes the same; None where none was asked for."""

    before: Widths
    after: Widths
    proof: Proof | None


def pad_model(model: str, parallel: int, output: Path, prove: bool = True) -> Padded:
    """Write MODEL, padded for `parallel` devices, as the directory `output`; nothing appears there if it is not equal.

    Weights are streamed: one tensor, and its padded copy, are in memory at a time (the proof loads both models, one
    after the other). UserError for an adapter, a model that cannot be padded, or one that divides as it is.
    """
    source = require_merged(resolve_model(model))
    config = read_config(source.base)
    plan = pad_plan(model, shape_of(config), parallel)
    with new_folder(output) as folder:
        copy_companions(source, folder)
        form = padded_form(config, plan.after, plan.head_dim)
        with Checkpoint(source.base) as checkpoint:
            write_padded(checkpoint, plan, folder, adds_bias=form.adds_output_bias)
        write_json(folder / "config.json", form.config)
        write_json(folder / "padding.json", describe(model, plan))
        proof = compare_models(source, folder, proof_dtype(folder)) if prove else None
        if proof:
            require_equal(proof, TOLERANCE, f"{model} and its padded form")
    return Padded(plan.before, plan.after, proof)


def proof_dtype(folder: Path) -> str:
    """float64 for a model that is small enough."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return "float64" if size <= PRECISE_BELOW else "float32"


def require_merged(source: Source) -> Source:
    """UserError for an adapter: its projections have the widths of the model that it was trained on."""
    if source.adapter:
        raise UserError(
            f"{source.name} is an adapter; only whole models are padded",
            f"selfalign weights merge {source.name} --to merged, then pad merged",
        )
    return source


def pad_plan(model: str, shape: Shape, parallel: int) -> Plan:
    """The widths and places for `parallel` devices. UserError where padding is not possible, or not needed."""
    if parallel < 2:
        raise UserError(f"--tensor-parallel {parallel} needs no padding", "name the number of devices, 2 or more")
    if shape.unsplittable:
        raise UserError(f"{model} cannot be padded: {shape.unsplittable}", f"selfalign plan {model} --gpus {parallel}")
    before = Widths(shape.heads, shape.kv_heads, shape.intermediate)
    if divides(before, parallel):
        raise UserError(
            f"{model} needs no padding: {parallel} divides its {shape.heads} query heads, {shape.kv_heads} key/value "
            f"heads and {shape.intermediate} feed-forward channels",
            f"use it as it is: vllm serve {model} --tensor-parallel-size {parallel}",
        )
    after = padded_widths(before, parallel, shape.heads_within)
    if after is None:
        raise UserError(
            f"{model} cannot be padded for {parallel} devices: transformers takes a {shape.model_type} only with a "
            f"number of heads that divides its hidden size {shape.hidden}, and {parallel} does not",
            f"selfalign plan {model} --gpus {parallel}",
        )
    return Plan(before, after, shape.head_dim, head_slots(before, after))


def write_padded(checkpoint: Checkpoint, plan: Plan, folder: Path, adds_bias: bool) -> None:
    """Stream the padded tensors into `folder`."""
    sources: dict[str, str] = {}
    entries = []
    for name in checkpoint.names:
        entry = padded_entry(checkpoint, name, plan)
        entries.append(entry)
        if adds_bias and name.endswith("self_attn.o_proj.weight"):
            bias = Entry(name.removesuffix("weight") + "bias", entry.shape[:1], entry.dtype)
            entries.append(bias)
            sources[bias.name] = name
    write_checkpoint(folder, entries, partial(padded_tensor, checkpoint, plan, sources))


def padded_entry(checkpoint: Checkpoint, name: str, plan: Plan) -> Entry:
    """The tensor's shape once padded. UserError where the weights are not what the config says."""
    entry = checkpoint.entry(name)
    part = part_of(name, entry.shape)
    if part is None:
        return entry
    if entry.shape[part.dim] != width_of(part, plan.before, plan.head_dim):
        raise UserError(
            f"{checkpoint.directory / checkpoint.places[name]}: {name} has shape {tuple(entry.shape)}; its config.json "
            f"asks for {width_of(part, plan.before, plan.head_dim)} in dimension {part.dim}",
            "these weights and this config.json are not of one model; download the model again",
        )
    shape = list(entry.shape)
    shape[part.dim] = width_of(part, plan.after, plan.head_dim)
    return entry._replace(shape=tuple(shape))


def padded_tensor(checkpoint: Checkpoint, plan: Plan, biases: dict[str, str], name: str) -> torch.Tensor:
    """The padded values. `biases` are tensors that the original lacks, each with the weight that it belongs to."""
    if name in biases:
        weight = checkpoint.tensor(biases[name])
        return weight.new_zeros(weight.shape[:1])
    tensor = checkpoint.tensor(name)
    part = part_of(name, tuple(tensor.shape))
    if part is None:
        return tensor
    if part.runs_over == "channels":
        return widen(tensor, plan.after.intermediate, part.dim)
    slots = plan.slots.query if part.runs_over == "query" else plan.slots.key_value
    return place(tensor, slots, part.dim, plan.head_dim)


def part_of(name: str, shape: tuple[int, ...]) -> Part | None:
    """How a tensor grows; None for one that stays, such as a norm, an embedding, or the bias of `o_proj`."""
    module = ".".join(name.split(".")[-3:-1])
    part = PARTS.get(module)
    return None if part is None or part.dim >= len(shape) else part


def width_of(part: Part, widths: Widths, head_dim: int) -> int:
    """Rows of a part under `widths`."""
    rows = {
        "query": widths.heads * head_dim,
        "key_value": widths.kv_heads * head_dim,
        "channels": widths.intermediate,
    }
    return rows[part.runs_over]


def describe(model: str, plan: Plan) -> dict[str, object]:
    """What was done, for who wants to undo it: which head of MODEL each head is, -1 for one of zeros."""
    return {
        "original": name_of(model),
        "before": plan.before._asdict(),
        "after": plan.after._asdict(),
        "head_dim": plan.head_dim,
        "query_heads": plan.slots.query,
        "key_value_heads": plan.slots.key_value,
    }


def write_json(file: Path, content: object) -> None:
    """Indented, with a newline at the end."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
