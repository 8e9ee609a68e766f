"""Shared prefixes, packing and memory: what they save, and that they change nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from selfalign.engines.base import Request, Sampling
from selfalign.engines.embedded import memory
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.engines.embedded.packing import can_pack, packed_linear
from selfalign.engines.embedded.prefixes import BLOCK, KEPT, Prefixes, common_length
from selfalign.engines.embedded.scoring import ROW_TOKENS, Tree, trees
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions
from tests.support.tiny import tiny_model_dir


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedEngine:
    path = tiny_model_dir(tmp_path_factory.mktemp("model"))
    return EmbeddedEngine(resolve_model(str(path)), EngineOptions(dtype="bfloat16", batch_size=8))


def tokens(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(256), k=count)


def test_a_longer_prefix_goes_on_from_a_kept_one_bit_for_bit(engine: EmbeddedEngine) -> None:
    """Rules, then rules and style: only what comes after the common blocks is computed, and nothing differs."""
    import torch

    rules, style = tokens(2 * BLOCK + 40), tokens(50, seed=1)
    passes: list[int] = []
    handle = engine.model.register_forward_pre_hook(
        lambda _m, _a, named: passes.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    grown = Prefixes(engine.model)
    grown.get(rules)
    passes.clear()
    after = grown.get(rules + style)
    assert passes == [40 + 50]
    handle.remove()
    alone = Prefixes(engine.model).get(rules + style)
    for mine, other in zip(after.layers, alone.layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_the_prefix_used_longest_ago_is_dropped(engine: EmbeddedEngine) -> None:
    prefixes = Prefixes(engine.model)
    for seed in range(KEPT + 1):
        prefixes.get(tokens(4, seed))
        prefixes.get(tokens(4, 0))
    assert len(prefixes._kept) == KEPT
    assert tuple(tokens(4, 0)) in prefixes._kept and tuple(tokens(4, 1)) not in prefixes._kept


def test_common_length() -> None:
    assert [common_length(rows) for rows in ([[1, 2, 3], [1, 2, 4], [1, 2]], [[1], [2]], [[5, 6]])] == [2, 0, 2]


@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_gives_what_the_layer_gives(bias: bool) -> None:
    import torch

    if not can_pack():
        pytest.skip("this PyTorch cannot pack")
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 96, bias=bias, dtype=torch.bfloat16)
    packed = packed_linear(linear)
    for rows in (1, 7, 300):
        hidden = torch.randn(1, rows, 64, dtype=torch.bfloat16)
        with torch.inference_mode():
            assert torch.allclose(packed(hidden), linear(hidden), atol=0.02, rtol=0.02)


def test_a_smaller_batch_is_run_where_memory_ends(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(str(i), f"Question {i}?", "", Sampling(1.0, 1.0, 8), seed=i) for i in range(6)]
    rows = [engine._row(engine._work(request)) for request in requests]
    assert memory.slots_that_fit(engine.model, rows, engine.options) == 6
    per_row = 19 * memory.bytes_per_token(engine.model.config, 2) + memory.LOGIT_COPIES * 4 * 258
    fixed = memory.activations(engine.model.config, 2, memory.PROMPT_TOKENS)
    monkeypatch.setattr(memory, "free_memory", lambda _: int((fixed + 2.5 * per_row) / memory.FREE_SHARE))
    assert memory.slots_that_fit(engine.model, rows, engine.options) == 2
    assert len(list(engine.generate(requests))) == 6
    monkeypatch.setattr(memory, "free_memory", lambda _: fixed)
    with pytest.raises(UserError, match="no memory for a sequence of 19 tokens"):
        list(engine.generate(requests))


def test_a_memory_setting_bounds_the_batch(engine: EmbeddedEngine) -> None:
    rows = [engine._row(engine._work(Request(str(i), "Why?", "", Sampling(max_tokens=4)))) for i in range(6)]
    fixed = memory.activations(engine.model.config, 2, memory.PROMPT_TOKENS)
    per_row = 8 * memory.bytes_per_token(engine.model.config, 2) + memory.LOGIT_COPIES * 4 * 258
    small = engine.options.model_copy(update={"memory_gib": (fixed + 3.5 * per_row) / memory.GIB})
    assert memory.slots_that_fit(engine.model, rows, small) == 3


def test_a_tree_keeps_its_branches_apart() -> None:
    tree = Tree([7, 8], [(0, [1, 2, 3]), (5, [4])])
    assert (tree.ids, tree.places, tree.branches) == ([7, 8, 1, 2], [0, 1, 2, 3], [-1, -1, 0, 0])
    assert list(tree.predictors()) == [(0, [1, 2, 3]), (5, [1])]


def test_many_candidates_are_spread_over_rows() -> None:
    pairs = [([1, 2], tokens(100, seed)) for seed in range(20)]
    rows = trees(pairs, range(20), shared=0)
    assert len(rows) > 1 and all(row.length <= ROW_TOKENS for row in rows)
    assert sorted(index for row in rows for index, _ in row.candidates) == list(range(20))


def test_many_questions_score_as_each_alone(tmp_path: Path) -> None:
    path = tiny_model_dir(tmp_path)
    exact = EmbeddedEngine(resolve_model(str(path)), EngineOptions(dtype="float32"))
    rules = "Answer each question in one line, and say when you do not know.\n\n"
    pairs = [
        (f"{rules}Q: {question}?\nA:", f" {answer}.")
        for question in ("Who", "What is the capital of the second largest state of the union", "When", "Who")
        for answer in ("No one knows", "It", "A long answer that goes on for a while")
    ]
    together = exact.score(pairs)
    for pair, score in zip(pairs, together, strict=True):
        alone = exact.score([pair])[0]
        assert score.log_probability == pytest.approx(alone.log_probability, abs=1e-3)
        assert score[1:] == alone[1:]


def test_a_continuation_of_nothing_is_certain(engine: EmbeddedEngine) -> None:
    assert engine.score([("Why", ""), ("Why", " not")])[0] == (0.0, 0, True)
