"""How a recipe's engine is spread over a cluster: ray, with what the recipe named inside it."""

from __future__ import annotations

import json
from typing import NamedTuple

from selfalign.errors import UserError
from selfalign.recipe import EngineOptions


class Replicas(NamedTuple):
    """Copies of the model: how many in all, and the most that one node's GPUs hold (0: GPUs set no bound)."""

    total: int
    per_node: int


def cluster_engine(engine: EngineOptions) -> str:
    """The section `engine` of the job as JSON on one line, to which the job adds address and replicas.

    The whole section, since `engine: vllm` in a recipe has no keys that `--set engine.kind=ray` could change.
    """
    if engine.kind == "openai":
        raise UserError(
            f"engine.kind openai: the server at {engine.base_url} generates, so there is nothing to spread over nodes",
            "selfalign run RECIPE on any machine that reaches it, or --set engine=vllm",
        )
    said = engine.model_dump(include=engine.model_fields_set - {"kind", "inside", "address", "replicas"}, mode="json")
    inside = engine.inside if engine.kind == "ray" else engine.kind
    return json.dumps({"kind": "ray", "inside": inside, **said}, ensure_ascii=False)


def wanted_replicas(engine: EngineOptions, nodes: int, gpus: int) -> Replicas:
    """One replica for each set of GPUs that holds the model, or one a node without GPUs, unless the recipe says.

    Raises UserError for a model that one node does not hold (a replica lives on one node), and for more than fit.
    """
    named = engine.replicas if "replicas" in engine.model_fields_set else 0
    inside = engine.inside if engine.kind == "ray" else engine.kind
    if not gpus or inside == "scripted":
        return Replicas(named or nodes, 0)
    each = engine.tensor_parallel_size * engine.pipeline_parallel_size if inside == "vllm" else 1
    per_node = gpus // each
    if not per_node:
        raise UserError(
            f"tensor x pipeline parallel is {each} GPUs, and a node has {gpus}: a replica lives on one node",
            f"selfalign plan MODEL --gpus {gpus}, or --gpus-per-node {each}",
        )
    if named > nodes * per_node:
        raise UserError(
            f"engine.replicas {named} of {each} GPU{'s' * (each > 1)} each: "
            f"{nodes} nodes of {gpus} have room for {nodes * per_node}",
            f"--set engine.replicas={nodes * per_node}",
        )
    return Replicas(named or nodes * per_node, per_node)
