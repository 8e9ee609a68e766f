"""A chosen layout in words and as JSON: why, what it costs, and the commands that come next."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Any

from selfalign.weights.plan import OVERHEAD_GIB, Layout, Request, widths_for
from selfalign.weights.shapes import Shape, is_adapter
from selfalign.weights.sizes import GIB, Parameters


def as_json(
    model: str, place: str, shape: Shape, counts: Parameters, request: Request, layout: Layout
) -> dict[str, Any]:
    """Everything that the plan knows. `place` is what engines load: MODEL's directory, or what merging it will write.

    GiB are of the fullest GPU, costs are percent of the unpadded model's.
    """
    load = layout.load
    whole = place if is_adapter(model) else model
    final = padded_name(whole, layout) if layout.padded else whole
    return {
        "model": model,
        "gpus": request.gpus,
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "data": layout.data,
        "padded": layout.padded,
        "idle": request.gpus - layout.gpus,
        "parameters": counts.total,
        "heads": [shape.heads, layout.widths.heads],
        "kv_heads": [shape.kv_heads, layout.widths.kv_heads],
        "intermediate_size": [shape.intermediate, layout.widths.intermediate],
        "padding_memory_percent": round(100 * load.memory_cost, 2),
        "padding_compute_percent": round(100 * load.compute_cost, 2),
        "memory_gib": request.memory_gib or None,
        "usable_gib": round(request.memory_gib * request.utilization, 3) or None,
        "weights_gib": round(load.weights / GIB, 3),
        "kv_bytes_per_token": load.kv_per_token,
        "context": request.context,
        "cache_tokens": layout.room or None,
        "vocabulary_padded_by_plugin": needs_plugin(shape, layout),
        "why": why(shape, request, layout),
        "commands": commands(model, place, layout),
        "recipe": recipe(layout, final),
    }


def as_text(plan: dict[str, Any]) -> str:
    """The same, to read."""
    lines = [
        f"{plan['model']} on {plan['gpus']} GPUs: tensor {plan['tensor']} x pipeline {plan['pipeline']} "
        f"x data {plan['data']}" + (f" ({plan['idle']} idle)" if plan["idle"] else "")
    ]
    lines += [f"  {reason}" for reason in plan["why"]]
    lines += ["next:", *(f"  {command}" for command in plan["commands"])]
    return "\n".join([*lines, "in a recipe:", *(f"  {line}" for line in yaml_lines(plan["recipe"]))])


def why(shape: Shape, request: Request, layout: Layout) -> list[str]:
    """The reasons, a sentence each."""
    return [
        splitting_reason(request, layout),
        dividing_reason(shape, layout),
        *([left_out_reason(shape)] if leaves_out(shape, request) else []),
        memory_reason(request, layout),
        *([vocabulary_reason(shape, layout)] if needs_plugin(shape, layout) else []),
    ]


def splitting_reason(request: Request, layout: Layout) -> str:
    """Why so many GPUs a copy."""
    each = layout.tensor * layout.pipeline
    if request.copies:
        return f"{request.copies} copies were asked for: {each} GPUs each"
    if not request.memory_gib:
        return "the memory of a GPU is not known, so one copy is split over all; with --memory GIB, more copies may run"
    if each == 1:
        return "a copy fits on one GPU, and copies side by side exchange nothing: one on each"
    return f"of the layouts that fit, {layout.data} x {each} GPUs is estimated fastest"


def dividing_reason(shape: Shape, layout: Layout) -> str:
    """What the tensor-parallel size divides, and what making it divide costs."""
    if layout.tensor == 1:
        return "no layer is split, so nothing needs to divide"
    now = f"{shape.heads} query and {shape.kv_heads} key/value heads, {shape.intermediate} feed-forward channels"
    if not layout.padded:
        return f"{layout.tensor} suits {now}: no padding"
    wide = layout.widths
    return (
        f"{layout.tensor} does not divide {now}; zero-padded to {wide.heads}, {wide.kv_heads} and {wide.intermediate} "
        f"it does, with the same outputs, for {layout.load.memory_cost:.1%} more weights and "
        f"{layout.load.compute_cost:.1%} more compute"
    )


def leaves_out(shape: Shape, request: Request) -> bool:
    """Whether tensor-parallel sizes were left out that padding would have allowed."""
    return bool(shape.unsplittable) and any(widths_for(shape, size) is None for size in range(2, request.gpus + 1))


def left_out_reason(shape: Shape) -> str:
    """Why they were."""
    return f"tensor-parallel sizes that do not divide its heads and channels are left out: {shape.unsplittable}"


def memory_reason(request: Request, layout: Layout) -> str:
    """What the fullest GPU holds."""
    weights = (
        f"fullest GPU: weights {layout.load.weights / GIB:.2f} GiB, {layout.load.kv_per_token} bytes a cached token"
    )
    if not request.memory_gib:
        return weights
    return (
        f"{weights}; of {request.memory_gib:g} GiB, {request.utilization:.0%} used and {OVERHEAD_GIB:g} GiB kept free, "
        f"the cache of a copy holds {layout.room} tokens ({layout.room // request.context} x {request.context})"
    )


def needs_plugin(shape: Shape, layout: Layout) -> bool:
    """Whether vLLM by itself would refuse the vocabulary, which it pads to a multiple of 64 only."""
    return (-(-shape.vocabulary // 64) * 64) % layout.tensor != 0


def vocabulary_reason(shape: Shape, layout: Layout) -> str:
    """How the vocabulary is split."""
    return (
        f"{layout.tensor} does not divide the vocabulary of {shape.vocabulary} as vLLM pads it; where selfalign is "
        "installed beside vLLM, its plugin has vLLM pad further (transformers splits it unevenly)"
    )


def padded_name(model: str, layout: Layout) -> str:
    """The directory that padding writes."""
    return f"{PurePath(model).name.lower()}-tp{layout.tensor}"


def commands(model: str, place: str, layout: Layout) -> list[str]:
    """Merge and pad, where needed, and serve."""
    steps = []
    if is_adapter(model):
        steps.append(["selfalign", "weights", "merge", model, "--to", place])
        model = place
    if layout.padded:
        name = padded_name(model, layout)
        steps.append(["selfalign", "weights", "pad", model, "--tensor-parallel", str(layout.tensor), "--to", name])
        place = name
    sizes = {"tensor": layout.tensor, "pipeline": layout.pipeline, "data": layout.data}
    serve = ["vllm", "serve", place]
    for name, size in sizes.items():
        serve += [f"--{name}-parallel-size", str(size)] if size > 1 else []
    return [shlex.join(step) for step in [*steps, serve]]


def served_place(model: str, base: str) -> str:
    """What an engine loads before any padding: the base's place, or a new directory for a merged adapter."""
    return f"{PurePath(model).name.lower()}-merged" if is_adapter(model) else base


def recipe(layout: Layout, model: str) -> dict[str, Any]:
    """The recipe's keys. Several copies run as replicas on Ray."""
    engine: dict[str, Any] = {"kind": "vllm"}
    if layout.data > 1:
        engine = {"kind": "ray", "inside": "vllm", "replicas": layout.data}
    sizes = {"tensor_parallel_size": layout.tensor, "pipeline_parallel_size": layout.pipeline}
    return {"base_model": model, "engine": engine | sizes}


def yaml_lines(keys: dict[str, Any]) -> list[str]:
    """As it stands in a recipe file."""
    import yaml

    return yaml.safe_dump(keys, sort_keys=False).splitlines()
