"""The compiled functions against PyTorch's operators, which do the same where there is no compiler."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from selfalign.engines.embedded import attention as two_parts
from selfalign.engines.embedded import kernel
from selfalign.engines.embedded.attention import Prefix, Step, two_part_attention
from selfalign.engines.embedded.cache import SlotCache
from selfalign.engines.embedded.gates import fuse_gates
from selfalign.engines.embedded.kernel import Kernel, find_kernel
from selfalign.engines.embedded.norms import replace_norms
from selfalign.engines.embedded.packing import packed_linear
from selfalign.engines.embedded.pairs import shared_pairs
from selfalign.engines.embedded.parts import shared_part
from selfalign.engines.embedded.rotations import NAME, replace_rotations
from selfalign.engines.embedded.sampling import choose
from tests.support.tiny import tiny_model

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
PLACES = (0, 1, 127, 128, 200)
"""A first token, and own parts around the length that is looked at together."""
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def kernel_of(kind: SimpleNamespace, dtype: torch.dtype) -> Kernel | None:
    groups = kind.num_attention_heads // kind.num_key_value_heads
    return find_kernel(kind.head_dim, groups, str(dtype), "cpu")


@pytest.fixture
def no_kernels() -> Iterator[None]:
    find_kernel.cache_clear()
    yield
    find_kernel.cache_clear()


def config(heads: int, shared_by: int, dim: int) -> SimpleNamespace:
    return SimpleNamespace(
        num_attention_heads=heads * shared_by, num_key_value_heads=heads, head_dim=dim, num_hidden_layers=1
    )


def attention(kind: SimpleNamespace, dtype: torch.dtype, prefix: int, window: int | None) -> list[torch.Tensor]:
    """Output and cache after one pass of newest tokens, in float32; the same numbers whoever computes them."""
    torch.manual_seed(0)
    heads, dim, rows = kind.num_key_value_heads, kind.head_dim, len(PLACES)
    cache = SlotCache(kind, rows, 256, dtype, torch.device("cpu"))
    for part in (*cache.keys, *cache.values):
        part.normal_()
    flat = [torch.randn(1, rows, n * dim, dtype=dtype) for n in (kind.num_attention_heads, heads, heads)]
    query, key, value = (tensor.view(1, rows, -1, dim).transpose(1, 2) for tensor in flat)
    shared = [(torch.randn(1, heads, dim, prefix, dtype=dtype), torch.randn(1, heads, prefix, dim, dtype=dtype))]
    places = torch.tensor(PLACES)
    step = Step(Prefix(prefix, shared), places, cache, torch.arange(rows), rows)
    layer = SimpleNamespace(layer_idx=0)
    found, _ = two_part_attention(layer, query, key, value, None, two_part=step, sliding_window=window)
    return [found.float(), *(part.float() for part in (*cache.keys, *cache.values))]


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "shared_by", "dim"), [(3, 3, 64), (2, 1, 16), (1, 4, 80)])
@pytest.mark.parametrize(("prefix", "window"), [(0, None), (40, None), (0, 100), (40, 150)])
def test_the_kernel_does_what_the_operators_do(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    heads: int,
    shared_by: int,
    dim: int,
    prefix: int,
    window: int | None,
) -> None:
    kind = config(heads, shared_by, dim)
    assert kernel_of(kind, dtype) is not None
    mine, *kept = attention(kind, dtype, prefix, window)
    monkeypatch.setattr(two_parts, "find_kernel", lambda *_: None)
    other, *expected = attention(kind, dtype, prefix, window)
    torch.testing.assert_close(mine, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))


@needs_compiler
def test_a_row_has_the_same_bits_whatever_is_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = config(2, 2, 16)
    whole = attention(kind, torch.float32, 0, None)[0]
    monkeypatch.setattr("tests.engines.test_kernel.PLACES", PLACES[::-1])
    again = attention(kind, torch.float32, 0, None)[0]
    assert torch.equal(whole[:, 2], again[:, 2])  # the one in the middle has the same place, its neighbours do not


@needs_compiler
def test_nan_is_not_hidden() -> None:
    kind = config(2, 2, 16)
    used = kernel_of(kind, torch.bfloat16)
    assert used is not None
    cache = SlotCache(kind, 1, 8, torch.bfloat16, torch.device("cpu"))
    fresh = tuple(torch.full((1, n, 1, 16), float("nan"), dtype=torch.bfloat16) for n in (4, 2, 2))
    output = torch.zeros(1, 1, 4, 16, dtype=torch.bfloat16)
    used.attend(cache, 0, torch.tensor([0]), (fresh[0], fresh[1], fresh[2]), None, None, output)
    assert bool(output.isnan().all())


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softening_is_a_softmax_and_its_log_sum_exp(dtype: torch.dtype) -> None:
    scores = torch.randn(2, 5, 301, generator=torch.Generator().manual_seed(0)).mul_(4).to(dtype)
    scores[0, 0, 7] = -1e9
    expected = scores.float().softmax(-1), scores.float().logsumexp(-1)
    used = kernel_of(config(2, 2, 16), dtype)
    assert used is not None
    lse = used.soften(scores)
    weights = scores.float()
    torch.testing.assert_close(weights, expected[0], rtol=TOLERANCE[dtype] / 2, atol=1e-6)
    torch.testing.assert_close(lse, expected[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5), rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=0)


def test_without_a_compiler_there_is_none(no_kernels: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    assert kernel_of(config(2, 2, 16), torch.float32) is None


def test_a_compiler_that_fails_is_none_too(no_kernels: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path))
    monkeypatch.setattr(kernel, "FLAGS", ("--no-such-option",))
    assert kernel_of(config(2, 2, 16), torch.float32) is None
    assert list(tmp_path.rglob("*.so")) == []


@needs_compiler
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("spread", [0.5, 2.0, 10.0])
def test_the_kernel_draws_what_the_operators_draw(spread: float, top_p: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 5001) * spread
    logits[:, 3] = -float("inf")
    settings = (torch.rand(64) * 1.5, torch.full((64,), top_p), torch.rand(64))
    settings[0][:5] = 0
    used = kernel_of(config(2, 2, 16), torch.bfloat16)
    assert used is not None
    chosen, expected = used.choose(logits, *settings), choose(logits, *settings)
    assert torch.equal(chosen[:5], logits[:5].argmax(-1))
    assert int((chosen != expected).sum()) <= 2  # where the draw falls on the border of two tokens


@needs_compiler
def test_logits_in_the_models_dtype_are_read_as_they_are() -> None:
    torch.manual_seed(1)
    logits = torch.randn(16, 5001).bfloat16()
    settings = (torch.rand(16), torch.full((16,), 0.9), torch.rand(16))
    used = kernel_of(config(2, 2, 16), torch.bfloat16)
    assert used is not None
    assert torch.equal(used.choose(logits, *settings), used.choose(logits.float(), *settings))


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 64])
def test_a_fused_gate_gives_what_the_layer_gave(dtype: torch.dtype, rows: int) -> None:
    model = tiny_model().to(dtype)
    layer = model.model.layers[0].mlp
    hidden = torch.randn(1, rows, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        expected = layer(hidden)
        fuse_gates(model)
        assert "forward" in vars(layer)
        torch.testing.assert_close(layer(hidden), expected)


@needs_compiler
def test_a_layer_with_another_activation_stays_as_it_is() -> None:
    model = tiny_model()
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.GELU()
    fuse_gates(model)
    assert not any("forward" in vars(layer.mlp) for layer in model.model.layers)


@needs_compiler
def test_the_kernel_walks_equal_weights_in_the_order_of_the_vocabulary() -> None:
    used = kernel_of(config(2, 2, 16), torch.float32)
    assert used is not None
    draws, ones = torch.arange(100) / 100, torch.ones(100)
    chosen = used.choose(torch.zeros(100, 1000), ones, ones * 0.5, draws)
    assert torch.allclose(chosen.float(), draws * 500, atol=1)
    extremes = torch.tensor([0.0, 0.99999994])
    assert used.choose(torch.zeros(2, 1000), ones[:2], ones[:2], extremes).tolist() == [0, 999]


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 64])
def test_a_replaced_norm_gives_what_it_gave(dtype: torch.dtype, rows: int) -> None:
    model = tiny_model().to(dtype)
    hidden = torch.randn(1, rows, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = model.model.norm(hidden)
    replace_norms(model)
    assert type(model.model.norm).__name__ == "FusedNorm"
    furthest = 1e-6 if dtype == torch.float32 else 1 / 64
    torch.testing.assert_close(model.model.norm(hidden), expected, rtol=furthest, atol=furthest)


@needs_compiler
def test_a_norm_that_weighs_otherwise_is_left_alone() -> None:
    class OtherRMSNorm(LlamaRMSNorm):  # type: ignore[misc]  # as Gemma's, in whose files the weights are less 1
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden) + super().forward(hidden) / self.weight

    model = tiny_model()
    model.model.norm = OtherRMSNorm(64)
    replace_norms(model)
    assert type(model.model.norm) is OtherRMSNorm
    assert type(model.model.layers[0].input_layernorm).__name__ == "FusedNorm"


def pairs_kernel(dim: int, shared_by: int = 2) -> Kernel:
    used = find_kernel(dim, shared_by, "torch.bfloat16", "cpu")
    if used is None or not used.has_pairs:
        pytest.skip("this processor multiplies no bfloat16 pairs (or whole tiles, which PyTorch's products use)")
    return used


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 64])
def test_a_replaced_rotation_gives_what_it_gave(dtype: torch.dtype, rows: int) -> None:
    model = tiny_model().to(dtype)
    layer, places = model.model.layers[0].self_attn, torch.arange(7, 7 + rows)[None]
    hidden = torch.randn(1, rows, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    given = {"position_embeddings": model.model.rotary_emb(hidden, places), "attention_mask": None}
    with torch.inference_mode():
        expected = layer(hidden, **given)[0]
        replace_rotations(model)
        assert "forward" in vars(layer)
        torch.testing.assert_close(layer(hidden, **given)[0], expected)


@needs_compiler
def test_only_the_layers_of_that_model_rotate_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = tiny_model(), tiny_model()
    replace_rotations(model)
    assert model.model.layers[0].self_attn.forward.__globals__[NAME] is not modeling_llama.apply_rotary_pos_emb
    assert other.model.layers[0].self_attn.forward.__globals__[NAME] is modeling_llama.apply_rotary_pos_emb


@needs_compiler
def test_a_rotation_of_neighbours_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def interleaved(query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Any:
        def turned(x: torch.Tensor) -> torch.Tensor:
            return x * cos[:, None] + torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2) * sin[:, None]

        return turned(query), turned(key)

    monkeypatch.setattr(modeling_llama, NAME, interleaved)
    model = tiny_model()
    replace_rotations(model)
    assert not any("forward" in vars(layer.self_attn) for layer in model.model.layers)


@pytest.mark.parametrize("rows", [1, 5, 6, 64, 241, 500])
@pytest.mark.parametrize("biased", [False, True])
def test_a_linear_layer_in_pairs_gives_what_it_gave(rows: int, biased: bool) -> None:
    linear, used = torch.nn.Linear(90, 192, bias=biased).bfloat16(), pairs_kernel(16)
    hidden = torch.randn(1, rows, 90, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        found = packed_linear(linear, used)(hidden)
        assert found.shape == (1, rows, 192)
        torch.testing.assert_close(found.float(), linear.float()(hidden.float()), rtol=1e-2, atol=1e-2)


def test_a_linear_layer_gives_a_row_the_same_bits_whatever_rows_are_beside_it() -> None:
    layer = packed_linear(torch.nn.Linear(64, 128).bfloat16(), pairs_kernel(16))
    hidden = torch.randn(1, 300, 64).bfloat16()
    with torch.inference_mode():
        whole = layer(hidden)
        for row in (0, 5, 239, 240, 299):
            assert torch.equal(layer(hidden[:, row : row + 1])[0, 0], whole[0, row])


def test_a_width_that_pairs_cannot_hold_is_packed_otherwise() -> None:
    hidden, linear = torch.randn(1, 3, 64).bfloat16(), torch.nn.Linear(64, 100).bfloat16()
    with torch.inference_mode():
        found = packed_linear(linear, pairs_kernel(16))(hidden)
        torch.testing.assert_close(found.float(), linear.float()(hidden.float()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("dim", "shared_by"), [(64, 3), (16, 2), (80, 1), (128, 4)])
@pytest.mark.parametrize("length", [1, 64, 200])
@pytest.mark.parametrize("count", [1, 7, 64])
def test_shared_keys_in_pairs_are_attended_to_alike(dim: int, shared_by: int, length: int, count: int) -> None:
    used = pairs_kernel(dim, shared_by)
    torch.manual_seed(0)
    query = torch.randn(1, 3 * shared_by, count, dim).bfloat16() * dim**-0.5
    keys, values = torch.randn(1, 3, dim, length).bfloat16(), torch.randn(1, 3, length, dim).bfloat16()
    (pairs,) = shared_pairs([(keys, values)], used)
    output, lse = used.share(query, pairs)
    expected = shared_part(query.float(), keys.float(), values.float(), None, None)
    torch.testing.assert_close(lse, expected.lse, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.float(), expected.output, rtol=2e-2, atol=2e-2)
    alone, _ = used.share(query[:, :, :1], pairs)
    assert torch.equal(alone[:, :, 0], output[:, :, 0])  # whatever is asked beside it
