"""What a process keeps of its matrix products: little, however many lengths its prompts have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from selfalign.engines.embedded.packing import can_pack

MANY_LENGTHS = """
import torch
from selfalign.engines.embedded.memory import prepare_heap
from selfalign.engines.embedded.packing import packed_linear

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

prepare_heap()
torch.set_num_threads(1)
layers = [packed_linear(torch.nn.Linear(size, size, bias=False).bfloat16()) for size in (64, 96)]
with torch.inference_mode():
    for length in range(2, 402):
        for layer in layers:
            layer(torch.zeros(1, length, layer.weight.shape[0], dtype=torch.bfloat16))
        if length == 202:
            before = resident_mib()
print(resident_mib() - before)
"""
"""Prints by how many MiB the process grew in its second 200 lengths."""


@pytest.mark.skipif(sys.platform != "linux" or not can_pack(), reason="needs Linux and oneDNN")
def test_prompts_of_ever_new_lengths_do_not_make_the_process_grow() -> None:
    done = subprocess.run([sys.executable, "-c", MANY_LENGTHS], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60  # 140 and more where everything is kept
