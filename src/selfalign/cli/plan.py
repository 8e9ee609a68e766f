"""selfalign plan MODEL --gpus N."""

from __future__ import annotations

import argparse

DEFAULT_CONTEXT = 8192


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `selfalign plan`."""
    parser.add_argument("model", help="a model directory (config.json will do), a Hub id, or smollm2-135m")
    parser.add_argument("--gpus", type=int, required=True, metavar="N", help="how many GPUs there are")
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="memory of one GPU (default: this machine's GPU, or unknown)"
    )
    parser.add_argument(
        "--context", type=int, metavar="TOKENS", help="longest sequence that must fit (default: the model's, or 8192)"
    )
    parser.add_argument("--copies", type=int, metavar="D", help="copies of the model; 1 answers a request soonest")
    parser.add_argument("--gpus-per-node", type=int, default=8, metavar="N", help="GPUs of one machine (default 8)")
    parser.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16", help="of the weights"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(options: argparse.Namespace) -> int:
    """Choose, and print the layout with its reasons and commands."""
    import json

    from selfalign.pipeline.progress import quiet_libraries
    from selfalign.weights.plan import Request, choose_layout
    from selfalign.weights.plan_text import as_json, as_text, served_place
    from selfalign.weights.shapes import DTYPE_BYTES, config_place, read_config, shape_of
    from selfalign.weights.sizes import count_parameters

    check(options)
    quiet_libraries()
    config = read_config(options.model)
    shape = shape_of(config)
    longest = shape.context or DEFAULT_CONTEXT
    request = Request(
        gpus=options.gpus,
        memory_gib=own_memory_gib() if options.memory is None else options.memory,
        context=options.context or min(longest, DEFAULT_CONTEXT),
        bytes_each=DTYPE_BYTES[options.dtype],
        gpus_per_node=options.gpus_per_node,
        copies=options.copies or 0,
    )
    counts = count_parameters(config)
    layout = choose_layout(shape, counts, request)
    place = served_place(options.model, config_place(options.model))
    plan = as_json(options.model, place, shape, counts, request, layout)
    print(json.dumps(plan, indent=2) if options.json else as_text(plan))
    return 0


def check(options: argparse.Namespace) -> None:
    """UserError for a number that is none of a machine."""
    from selfalign.errors import UserError

    for name in ("gpus", "memory", "context", "copies", "gpus_per_node"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} must be a number above 0, is {value}", "selfalign plan --help")
    if options.copies and options.copies > options.gpus:
        raise UserError(f"{options.copies} copies on {options.gpus} GPUs: each needs one at least", "lower --copies")


def own_memory_gib() -> float:
    """The memory of this machine's first GPU in GiB; 0 where there is none."""
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory) / 2**30 if torch.cuda.is_available() else 0.0
