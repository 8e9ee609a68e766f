"""The embedded engine on a 2-layer random model: what it computes, against the plain forward pass."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from selfalign.engines.base import Completion, Request, Sampling
from selfalign.engines.embedded import attention
from selfalign.engines.embedded.cache import SlotCache
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.errors import EngineFailed, UserError
from selfalign.recipe import EngineOptions
from tests.support.tiny import EOS, tiny_model_dir

PREFIX = "These rules hold for every reply that the assistant gives to a user.\n" * 4
PROMPTS = [
    "### User\nWhy?\n",
    "### User\nName three rivers of Asia, longest first.\n",
    "x",
    "### User\nGo on, tell me\n",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedEngine:
    path = tiny_model_dir(tmp_path_factory.mktemp("model"))
    return EmbeddedEngine(resolve_model(str(path)), EngineOptions(dtype="float32", batch_size=3))


def complete(engine: EmbeddedEngine, requests: list[Request]) -> dict[str, Completion]:
    return {completion.key: completion for completion in engine.generate(requests)}


def plain_logits(model: Any, ids: list[int]) -> Any:
    """Logits [n, V] in float32 of a whole forward pass with transformers' own attention."""
    import torch

    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    model.set_attn_implementation(attention.NAME)
    return logits


def greedy_reference(engine: EmbeddedEngine, text: str, count: int) -> list[int]:
    """Greedy decoding by whole forward passes of transformers' own attention."""
    ids = engine.tokenizer.encode(text, add_special_tokens=False)
    start = len(ids)
    for _ in range(count):
        token = int(plain_logits(engine.model, ids)[-1].argmax())
        if token in engine.ends:
            break
        ids.append(token)
    return ids[start:]


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_two_part_attention_gives_what_whole_attention_gives(engine: EmbeddedEngine, prefix: str) -> None:
    requests = [Request(str(i), prompt, prefix, Sampling(0.0, 1.0, 12)) for i, prompt in enumerate(PROMPTS)]
    completions = complete(engine, requests)
    for i, prompt in enumerate(PROMPTS):
        expected = greedy_reference(engine, prefix + prompt, 12)
        assert completions[str(i)].text == engine.tokenizer.decode(expected, skip_special_tokens=True)


def first_logits(engine: EmbeddedEngine) -> Any:
    """Logits [prompts, V] of the first pass under the prefix, as the decoder computes them."""
    import torch

    works = [engine._work(Request(str(i), text, PREFIX, Sampling(0.0, 1.0, 2))) for i, text in enumerate(PROMPTS)]
    decoder = engine._decoder(works)
    decoder.slots = len(works)
    decoder.cache = SlotCache(engine.model.config, 4, 200, engine.model.dtype, engine.device)
    with torch.inference_mode():
        return decoder._logits(decoder._started())


def test_first_logits_equal_full_attention(engine: EmbeddedEngine) -> None:
    """Closer than any sampled text can show: largest difference of logits below 1e-4 in float32."""
    logits = first_logits(engine)
    for row, prompt in enumerate(PROMPTS):
        ids = engine.tokenizer.encode(PREFIX + prompt, add_special_tokens=False)
        assert float((logits[row] - plain_logits(engine.model, ids)[-1]).abs().max()) < 1e-4


def test_bfloat16_stays_finite_and_near(tmp_path: Path) -> None:
    import torch

    half = EmbeddedEngine(resolve_model(str(tiny_model_dir(tmp_path))), EngineOptions(dtype="bfloat16", batch_size=4))
    logits = first_logits(half)
    assert bool(torch.isfinite(logits).all())
    for row, prompt in enumerate(PROMPTS):
        ids = half.tokenizer.encode(PREFIX + prompt, add_special_tokens=False)
        expected = plain_logits(half.model, ids)[-1]
        assert float((logits[row] - expected).abs().max()) < 0.1 * float(expected.std())


def test_a_sample_depends_on_its_seed_and_not_on_its_batch(engine: EmbeddedEngine) -> None:
    def request(i: int, seed: int) -> Request:
        return Request(f"{i}", PROMPTS[i % 4], PREFIX, Sampling(1.0, 0.95, 16), seed=seed)

    together = complete(engine, [request(i, seed=7 + i) for i in range(8)])
    for i in range(8):
        assert complete(engine, [request(i, seed=7 + i)])[str(i)] == together[str(i)]
    assert complete(engine, [request(0, seed=99)])["0"].text != together["0"].text


def test_the_same_requests_give_the_same_completions_again(engine: EmbeddedEngine) -> None:
    requests = [Request(str(i), PROMPTS[i], PREFIX, Sampling(1.0, 1.0, 20), seed=i) for i in range(4)]
    assert complete(engine, requests) == complete(engine, list(reversed(requests)))


def test_a_stop_string_is_found_across_tokens_and_left_out(engine: EmbeddedEngine) -> None:
    free = complete(engine, [Request("a", PROMPTS[1], "", Sampling(1.0, 1.0, 40), seed=3)])["a"]
    stop = free.text[10:13]  # one byte a token: three tokens at least
    stopped = complete(engine, [Request("a", PROMPTS[1], "", Sampling(1.0, 1.0, 40, (stop,)), seed=3)])["a"]
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.find(stop)]


def test_length_limit_and_token_counts(engine: EmbeddedEngine) -> None:
    bias = {"a": 100.0}
    done = complete(engine, [Request("k", "xyz", PREFIX, Sampling(1.0, 1.0, 9, logit_bias=bias))])["k"]
    assert (done.text, done.finish_reason) == ("a" * 9, "length")
    assert done.tokens.completion == 9
    assert done.tokens.prompt == len(PREFIX.encode()) + 3


def test_ngram_penalties_end_a_loop(engine: EmbeddedEngine) -> None:
    """Under a bias that leaves two bytes, a bigram penalty makes every pair come up before one comes up again."""
    bias = {"a": 100.0, "b": 100.0}
    plain = Sampling(0.0, 1.0, 8, logit_bias=bias)
    penalised = Sampling(0.0, 1.0, 8, logit_bias=bias, ngram_penalties=(0.0, 50.0, 0.0, 0.0))
    requests = [Request("plain", "x", "", plain), Request("penalised", "x", "", penalised)]
    texts = {key: completion.text for key, completion in complete(engine, requests).items()}
    pairs = {key: {text[i : i + 2] for i in range(4)} for key, text in texts.items()}
    assert len(pairs["penalised"]) == 4 > len(pairs["plain"])


def test_special_tokens_in_raw_text_are_plain_text(engine: EmbeddedEngine) -> None:
    encode = engine.tokenization.encode
    assert engine.tokenizer.eos_token_id not in encode(f"a{EOS}b", chat_format=False)
    assert engine.tokenizer.eos_token_id in encode(f"a{EOS}b", chat_format=True)


def test_streamed_pieces_make_the_completion(engine: EmbeddedEngine) -> None:
    request = Request("s", PROMPTS[1], PREFIX, Sampling(1.0, 1.0, 30, ("zz",)), seed=11)
    assert "".join(engine.stream(request)) == complete(engine, [request])["s"].text


def test_score_equals_the_sum_of_log_probabilities(engine: EmbeddedEngine) -> None:
    pairs = [("The capital of France is", " Paris"), ("Two and two", " make four, as ever")]
    for (context, continuation), score in zip(pairs, engine.score(pairs), strict=True):
        ids = [*engine.tokenizer.encode(context), *engine.tokenizer.encode(continuation)]
        logs = plain_logits(engine.model, ids).log_softmax(-1)
        start = len(context.encode())
        expected = sum(float(logs[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert math.isclose(score.log_probability, expected, abs_tol=1e-4)
        assert score.token_count == len(continuation.encode())


def test_no_end_and_no_stop_before_min_tokens(engine: EmbeddedEngine) -> None:
    bias = {"a": 50.0}
    settings = Sampling(0.0, 1.0, 8, ("aa",), bias, min_tokens=5)
    done = complete(engine, [Request("m", "x", "", settings)])["m"]
    assert (done.text, done.tokens.completion, done.finish_reason) == ("aaaa", 6, "stop")
    free = complete(engine, [Request(str(i), PROMPTS[0], "", Sampling(2.0, 1.0, 40), seed=i) for i in range(30)])
    early = [key for key, completion in free.items() if completion.tokens.completion < 20]
    assert early
    held = [Request(key, PROMPTS[0], "", Sampling(2.0, 1.0, 40, min_tokens=20), seed=int(key)) for key in early]
    assert all(completion.tokens.completion >= 20 for completion in complete(engine, held).values())


def test_slots_are_refilled_as_soon_as_a_sequence_ends(engine: EmbeddedEngine) -> None:
    """Rows of 2 to 20 tokens on 3 slots: the passes are those of full slots, far fewer than batch after batch."""
    passes = []
    handle = engine.model.register_forward_hook(lambda *_: passes.append(1))
    lengths = [20, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    settings = [Sampling(1.0, 1.0, length, min_tokens=length) for length in lengths]
    requests = [Request(f"{i:02d}", PROMPTS[3], "", setting, seed=i) for i, setting in enumerate(settings)]
    found = complete(engine, requests)
    handle.remove()
    assert [found[request.key].tokens.completion for request in requests] == lengths
    assert len(passes) <= 21  # in batches of three: 20 + 2 + 2 + 2


def test_requests_that_begin_alike_share_what_they_begin_with(engine: EmbeddedEngine) -> None:
    """Without a prefix of their own, 4 prompts of a common beginning cost it once."""
    seen: list[int] = []
    handle = engine.model.register_forward_pre_hook(
        lambda _m, _a, named: seen.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    requests = [Request(str(i), PREFIX + prompt, "", Sampling(0.0, 1.0, 4)) for i, prompt in enumerate(PROMPTS)]
    shared = complete(engine, requests)
    handle.remove()
    assert sum(seen) < len(PREFIX.encode()) * 2
    apart = [Request(str(i), prompt, PREFIX, Sampling(0.0, 1.0, 4)) for i, prompt in enumerate(PROMPTS)]
    assert complete(engine, apart) == shared


def test_an_unknown_bias_string_is_named(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.tokenization, "encode", lambda text, *_, **__: [] if text == "\u2603" else [5])
    with pytest.raises(UserError, match="the vocabulary has no token for '☃'"):
        complete(engine, [Request("b", "x", "", Sampling(logit_bias={"\u2603": 1.0}))])


def test_logits_that_are_no_numbers_name_the_layer(tmp_path: Path) -> None:
    import torch

    broken = EmbeddedEngine(resolve_model(str(tiny_model_dir(tmp_path))), EngineOptions(dtype="bfloat16"))
    down = broken.model.model.layers[1].mlp
    forward = down.forward
    down.forward = lambda hidden: forward(hidden) * torch.inf
    with pytest.raises(EngineFailed, match=r"logits of a are not finite: model.layers.1 overflows bfloat16") as fault:
        complete(broken, [Request("a", "Why?", "", Sampling(max_tokens=4))])
    assert "float32" in fault.value.hint


def test_close_frees_the_weights(tmp_path: Path) -> None:
    import gc
    import weakref

    closing = EmbeddedEngine(resolve_model(str(tiny_model_dir(tmp_path))), EngineOptions(dtype="float32"))
    list(closing.generate([Request("a", "Why?", PREFIX, Sampling(max_tokens=4))]))
    held = weakref.ref(closing.model.get_input_embeddings().weight)
    closing.close()
    gc.collect()
    assert held() is None
