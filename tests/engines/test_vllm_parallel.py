"""Padded models on 2 and 3 processes of vLLM: refused as they are, the same text once padded. `make test-vllm`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.base import Engine, Request, Sampling
from selfalign.engines.embedded.loading import Source
from selfalign.engines.vllm.vocabulary import padded_size
from selfalign.errors import EngineFailed
from selfalign.pipeline.engines import open_engine
from selfalign.recipe import EngineOptions
from selfalign.weights.pad import pad_model
from tests.support.real import default_source, padded_for_2_and_3
from tests.weights.families import random_model

OPTIONS = EngineOptions(kind="vllm", dtype="float32", batch_size=8, max_model_len=512, memory_gib=0.25)
PROMPTS = ("Water boils at", "The capital of France is", "def add(a, b):\n    return", "1, 2, 3, 5, 8,")


def real(test: Any) -> Any:
    """Marks of a test that opens vLLM."""
    absent = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
    return pytest.mark.slow(pytest.mark.timeout(900)(absent(test)))


@pytest.mark.parametrize(
    ("vocabulary", "devices", "padded"),
    [(49152, 2, 49152), (49152, 5, 49280), (258, 3, 384), (258, 1, 320), (151936, 3, 152064), (151936, 7, 152320)],
)
def test_a_vocabulary_is_padded_as_vllm_does_and_further_where_that_does_not_divide(
    vocabulary: int, devices: int, padded: int
) -> None:
    assert padded_size(vocabulary, 64, devices) == padded
    assert padded % 64 == padded % devices == 0


@pytest.fixture(scope="module")
def original() -> Source:
    return default_source()


@pytest.fixture(scope="module")
def padded(original: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return padded_for_2_and_3(original, tmp_path_factory.mktemp("padded"))


def greedy(engine: Engine) -> dict[str, str]:
    sampling = Sampling(temperature=0.0, max_tokens=24)
    asked = [Request(prompt, prompt, "", sampling) for prompt in PROMPTS]
    return {completion.key: completion.text for completion in engine.generate(asked)}


def texts_of(model: str, size: int = 1, **settings: Any) -> dict[str, str]:
    engine = open_engine(OPTIONS.model_copy(update={"tensor_parallel_size": size, **settings}), model)
    try:
        return greedy(engine)
    finally:
        engine.close()


@pytest.fixture(autouse=True)
def free_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM would bind each process to a memory node of its own, and a small machine has one."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def expected(original: Source) -> Iterator[dict[str, str]]:
    engine = open_engine(EngineOptions(kind="embedded", dtype="float32", batch_size=8), original.base)
    yield greedy(engine)
    engine.close()


@real
def test_vllm_refuses_2_processes_for_the_model_as_it_is(original: Source) -> None:
    with pytest.raises(EngineFailed, match=r"heads \(9\) must be divisible by tensor parallel size \(2\)") as caught:
        texts_of(original.base, 2)
    assert "selfalign weights pad" in caught.value.hint


@real
@pytest.mark.parametrize("processes", [2, 3])
def test_vllm_on_several_processes_writes_the_same_text(
    processes: int, padded: dict[int, Path], expected: dict[str, str]
) -> None:
    assert texts_of(str(padded[processes]), processes) == expected


@real
def test_a_qwen2_in_the_form_of_a_granite_writes_the_same_text(tmp_path: Path) -> None:
    sizes = {"hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 110}
    original = random_model("qwen2", tmp_path / "original", **sizes)
    pad_model(str(original), 4, tmp_path / "padded")
    assert json.loads((tmp_path / "padded" / "config.json").read_text())["model_type"] == "granite"
    embedded = open_engine(EngineOptions(kind="embedded", dtype="float32", batch_size=8), str(original))
    expected = greedy(embedded)
    embedded.close()
    assert texts_of(str(tmp_path / "padded"), 2, max_model_len=128) == expected


@real
def test_vllm_splits_a_vocabulary_that_64_and_the_processes_do_not_divide(tmp_path: Path) -> None:
    sizes = {"hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 2}  # heads of 32, the least it takes
    model = random_model("mistral", tmp_path / "model", **sizes)  # 258 tokens, which vLLM pads to 320
    pad_model(str(model), 3, tmp_path / "padded")
    assert texts_of(str(tmp_path / "padded"), 3, max_model_len=128) == texts_of(str(model), max_model_len=128)
    # Without our plugin, in a process of its own, since what a plugin did lasts as long as a process.
    call = f"texts_of({str(tmp_path / 'padded')!r}, 3, max_model_len=128)"
    script = f"from tests.engines.test_vllm_parallel import texts_of; {call}"
    plain = os.environ | {"VLLM_PLUGINS": ""}
    done = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "320 is not divisible by 3" in done.stderr
