"""Padded models for real: every number of devices on the embedded model, and 2 and 3 processes in transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.embedded.loading import Source, resolve_model
from selfalign.weights.pad import pad_model
from tests.support.real import default_source, padded_for_2_and_3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROMPTS = (
    "Water boils at",
    "The capital of France is",
    "def add(a, b):\n    return",
    "Once upon a time there was",
    "1, 2, 3, 5, 8,",
    "A letter to a friend who is ill:",
)

WORKER = """
import os, sys, torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM
model_path, ids_path, output = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, tp_plan="auto").eval()
own = model.model.layers[0].self_attn.q_proj.weight
with torch.inference_mode():
    logits = [model(torch.tensor([row])).logits[0] for row in torch.load(ids_path)]
if dist.get_rank() == 0:
    shards = own.to_local().shape[0] * dist.get_world_size() == own.shape[0]
    torch.save({"logits": [row.full_tensor() if hasattr(row, "full_tensor") else row for row in logits],
                "world": dist.get_world_size(), "split": shards}, output)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def original() -> Source:
    return default_source()


@pytest.fixture(scope="module")
def padded(original: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return padded_for_2_and_3(original, tmp_path_factory.mktemp("padded"))


def test_the_embedded_model_is_the_same_for_every_number_of_devices(original: Source, tmp_path: Path) -> None:
    from selfalign.engines.embedded.loading import load_tokenizer
    from selfalign.weights.proof import proof_of, row_logits

    tokenizer = load_tokenizer(original)
    rows = [tokenizer(text).input_ids for text in PROMPTS]
    expected = row_logits(original, rows, "float64")
    for size in (2, 4, 5, 6, 7, 8, 9, 10, 12):  # 3 divides it as it is
        pad_model(original.base, size, tmp_path / str(size), prove=False)
        proof = proof_of(rows, expected, row_logits(resolve_model(str(tmp_path / str(size))), rows, "float64"))
        assert (proof.largest_logit, proof.largest, proof.same_next) == (0.0, 0.0, 1.0), size


@pytest.mark.parametrize("size", [6, 8])  # groups of 3 are split into 2 and 2, with zeros between the terms of a sum
def test_in_float32_nothing_differs_but_the_order_of_a_sum(size: int, original: Source, tmp_path: Path) -> None:
    import torch

    from selfalign.engines.embedded.loading import load_model, load_tokenizer

    tokenizer = load_tokenizer(original)
    rows = [torch.tensor([tokenizer(text).input_ids]) for text in PROMPTS]
    pad_model(original.base, size, tmp_path / "padded", prove=False)
    logits = []
    for source in (original, resolve_model(str(tmp_path / "padded"))):
        model = load_model(source, torch.float32)
        for layer in model.model.layers:
            layer.self_attn.o_proj.forward = head_by_head(layer.self_attn.o_proj.weight, layer.self_attn.head_dim)
        with torch.inference_mode():
            logits.append([model(row).logits for row in rows])
    assert all(torch.equal(one, other) for one, other in zip(*logits, strict=True))


def head_by_head(weight: Any, head_dim: int) -> Any:
    """`o_proj` as a sum over the heads, one after the other."""
    from torch.nn.functional import linear

    parts = weight.split(head_dim, dim=1)

    def forward(x: Any) -> Any:
        total = 0
        for part, values in zip(parts, x.split(head_dim, dim=-1), strict=True):
            total = total + linear(values, part.contiguous())
        return total

    return forward


def torchrun(processes: int, model: str, rows: list[list[int]], folder: Path) -> subprocess.CompletedProcess[str]:
    import torch

    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    torch.save(rows, folder / "ids.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [str(folder / "worker.py"), model, str(folder / "ids.pt"), str(folder / "out.pt")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("processes", [2, 3])
def test_transformers_splits_a_padded_model_over_processes(
    processes: int, original: Source, padded: dict[int, Path], tmp_path: Path
) -> None:
    import torch

    from selfalign.engines.embedded.loading import load_tokenizer
    from selfalign.weights.proof import row_logits

    tokenizer = load_tokenizer(original)
    rows = [tokenizer(text).input_ids for text in PROMPTS]
    done = torchrun(processes, str(padded[processes]), rows, tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    result = torch.load(tmp_path / "run" / "out.pt")
    assert result["world"] == processes and result["split"]
    for ours, expected in zip(result["logits"], row_logits(original, rows, "float32"), strict=True):
        assert (ours - expected).abs().max() < 1e-3  # of logits up to 30: the order of sums in float32
        assert torch.equal(ours.argmax(-1), expected.argmax(-1))


def test_transformers_cannot_split_the_model_as_it_is_over_2_processes(original: Source, tmp_path: Path) -> None:
    done = torchrun(2, original.base, [[1, 2, 3]], tmp_path / "run")
    assert done.returncode != 0
    assert not (tmp_path / "run" / "out.pt").exists()
