"""The embedded engine on a 2-layer random model: what it computes, against the plain forward pass."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from selfalign.engines.base import Completion, Request, Sampling
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.errors import UserError
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
    return EmbeddedEngine(resolve_model(str(path)), dtype="float32", batch_size=3)


def complete(engine: EmbeddedEngine, requests: list[Request]) -> dict[str, Completion]:
    return {completion.key: completion for completion in engine.generate(requests)}


def greedy_reference(engine: EmbeddedEngine, text: str, count: int) -> list[int]:
    """Greedy decoding by whole forward passes of transformers' own attention."""
    import torch

    engine.model.set_attn_implementation("sdpa")
    ids = engine.tokenizer.encode(text, add_special_tokens=False)
    start = len(ids)
    for _ in range(count):
        with torch.no_grad():
            logits = engine.model(torch.tensor([ids])).logits[0, -1]
        token = int(logits.argmax())
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


def test_first_logits_equal_full_attention(engine: EmbeddedEngine) -> None:
    """Closer than any sampled text can show: largest difference of logits below 1e-4 in float32."""
    import torch

    from selfalign.engines.embedded.batch import Batch

    rows = [engine._row(Request(str(i), prompt, PREFIX, Sampling(0.0, 1.0, 2))) for i, prompt in enumerate(PROMPTS)]
    batch = Batch(engine.model, engine.tokenizer, engine._prefix(PREFIX), rows, engine.ends)
    with torch.inference_mode():
        logits = batch._prefill()
    engine.model.set_attn_implementation("sdpa")
    for row, prompt in enumerate(PROMPTS):
        ids = engine.tokenizer.encode(PREFIX + prompt, add_special_tokens=False)
        with torch.inference_mode():
            reference = engine.model(torch.tensor([ids])).logits[0, -1]
        assert float((logits[row] - reference).abs().max()) < 1e-4


def test_padding_stays_finite_in_bfloat16(tmp_path: Path) -> None:
    import torch

    from selfalign.engines.embedded.batch import Batch

    half = EmbeddedEngine(resolve_model(str(tiny_model_dir(tmp_path))), dtype="bfloat16", batch_size=4)
    rows = [half._row(Request(str(i), prompt, PREFIX, Sampling(0.0, 1.0, 2))) for i, prompt in enumerate(PROMPTS)]
    batch = Batch(half.model, half.tokenizer, half._prefix(PREFIX), rows, half.ends)
    with torch.inference_mode():
        logits = batch._prefill()
    assert bool(torch.isfinite(logits).all())
    for keys, values in zip(batch.cache.keys, batch.cache.values, strict=True):
        assert bool(torch.isfinite(keys).all() and torch.isfinite(values).all())


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
    raw = engine._encode(f"a{EOS}b", chat_format=False)
    assert engine.tokenizer.eos_token_id not in raw
    assert engine.tokenizer.eos_token_id in engine._encode(f"a{EOS}b", chat_format=True)


def test_streamed_pieces_make_the_completion(engine: EmbeddedEngine) -> None:
    request = Request("s", PROMPTS[1], PREFIX, Sampling(1.0, 1.0, 30, ("zz",)), seed=11)
    assert "".join(engine.stream(request)) == complete(engine, [request])["s"].text


def test_score_equals_the_sum_of_log_probabilities(engine: EmbeddedEngine) -> None:
    import torch

    pairs = [("The capital of France is", " Paris"), ("Two and two", " make four, as ever")]
    for (context, continuation), score in zip(pairs, engine.score(pairs), strict=True):
        ids = [*engine.tokenizer.encode(context), *engine.tokenizer.encode(continuation)]
        with torch.no_grad():
            logs = engine.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(context.encode())
        expected = sum(float(logs[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert math.isclose(score.log_probability, expected, abs_tol=1e-4)
        assert score.token_count == len(continuation.encode())


def test_a_prompt_beyond_the_context_is_refused_with_both_lengths(engine: EmbeddedEngine) -> None:
    with pytest.raises(UserError, match="1100 tokens does not fit the context of 1024"):
        complete(engine, [Request("long", "x" * 1100)])


def test_an_empty_prompt_is_refused(engine: EmbeddedEngine) -> None:
    with pytest.raises(UserError, match="empty"):
        complete(engine, [Request("e", "", PREFIX)])


def test_a_sliding_window_model_is_refused_by_name(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig

    from selfalign.engines.embedded.engine import refuse_sliding_window

    with pytest.raises(UserError, match="gemma3_text has layers of full_attention, sliding_attention"):
        refuse_sliding_window(Gemma3TextConfig(num_hidden_layers=6))
