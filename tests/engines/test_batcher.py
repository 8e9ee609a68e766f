"""Continuous batching on tiny models: who joins or leaves changes nobody's text, and every adapter is itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.base import Request, Sampling
from selfalign.engines.batching import BatchFailed, Progress, Ticket
from selfalign.engines.embedded import decoder
from selfalign.engines.embedded.batcher import EmbeddedBatcher
from selfalign.engines.embedded.cache import SlotCache
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.histories import Histories
from selfalign.engines.embedded.loading import Source
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions
from selfalign.records import Message
from tests.support.tiny import tiny_model, tiny_model_dir

OPTIONS = EngineOptions(dtype="float32", batch_size=8)
PREFIX = "Rules that everyone reads before anything else is said. "


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and two adapters that change it a lot."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("served")
    found = {"": tiny_model_dir(folder / "base")}
    for seed, name in enumerate(("engraved", "final")):
        model = tiny_model()
        torch.manual_seed(seed)
        settings = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        adapted = get_peft_model(model, settings)
        adapted.save_pretrained(folder / name)
        found[name] = folder / name
    return found


@pytest.fixture(scope="module")
def batcher(places: dict[str, Path]) -> EmbeddedBatcher:
    adapters = {name: places[name] for name in ("engraved", "final")}
    return EmbeddedBatcher(Source("run", str(places[""])), OPTIONS, adapters)


def ticket(key: str, prompt: str = "Once upon", adapter: str = "", prefix: str = "", top: int | None = None) -> Ticket:
    sampling = Sampling(temperature=0.8, max_tokens=12)
    return Ticket(Request(key, prompt, prefix, sampling, seed=5), adapter, top)


def drain(batcher: EmbeddedBatcher, steps: int = 1000) -> dict[str, list[Progress]]:
    """What comes until nobody is left, or so many steps are done."""
    found: dict[str, list[Progress]] = {}
    while batcher.is_busy and steps:
        for one in batcher.step():
            found.setdefault(one.key, []).append(one)
        steps -= 1
    return found


def alone(batcher: EmbeddedBatcher, one: Ticket) -> str:
    batcher.add(one)
    return text_of(drain(batcher)[one.request.key])


def text_of(news: list[Progress]) -> str:
    completion = news[-1].completion
    assert completion is not None
    assert "".join(one.text for one in news) == completion.text
    return completion.text


def test_each_adapter_writes_what_it_writes_merged(batcher: EmbeddedBatcher, places: dict[str, Path]) -> None:
    texts = {}
    for name in ("", "engraved", "final"):
        merged = EmbeddedEngine(Source("m", str(places[""]), places[name] if name else None), OPTIONS)
        (expected,) = merged.generate([ticket("k").request])
        texts[name] = alone(batcher, ticket("k", adapter=name))
        assert texts[name] == expected.text
    assert len(set(texts.values())) == 3


def test_who_joins_later_under_any_adapter_or_prefix_changes_nobodys_text(batcher: EmbeddedBatcher) -> None:
    several = [
        ticket("a", "Once upon"),
        ticket("b", "A much longer prompt, so that the slots must grow " * 6, "final"),
        ticket("c", "Twice", "engraved"),
        ticket("d", "Thrice", "", PREFIX),
        ticket("e", "Once more", "final"),
        ticket("f", "Once more", "engraved", PREFIX),
    ]
    expected = {one.request.key: alone(batcher, one) for one in several}
    found: dict[str, list[Progress]] = {}
    for one in several:
        batcher.add(one)
        for key, news in drain(batcher, 3).items():
            found.setdefault(key, []).extend(news)
    for key, news in drain(batcher).items():
        found.setdefault(key, []).extend(news)
    assert {key: text_of(news) for key, news in found.items()} == expected


def test_who_leaves_is_written_no_further_and_frees_the_slot(batcher: EmbeddedBatcher) -> None:
    expected = alone(batcher, ticket("b"))
    for key in "abc":
        batcher.add(ticket(key))
    first = drain(batcher, 2)
    batcher.drop("a")
    batcher.drop("nobody")
    (lane,) = batcher.lanes.values()
    assert [row.request.key for row in lane.running] == ["c", "b"]
    rest = drain(batcher)
    assert set(rest) == {"b", "c"}
    assert text_of(first["b"] + rest["b"]) == expected
    assert not batcher.is_busy
    assert not batcher.readers


def test_a_failed_step_gives_up_its_own_lane_alone(batcher: EmbeddedBatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(batcher, ticket("other", adapter="final"))
    batcher.add(ticket("broken"))
    batcher.add(ticket("other", adapter="final"))
    (lane, _) = batcher.lanes.values()

    def fail(*_: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(lane, "step", fail)
    with pytest.raises(BatchFailed, match="RuntimeError: no memory") as caught:
        batcher.step()
    assert caught.value.keys == ("broken",)
    batcher.probe()
    assert text_of(drain(batcher)["other"]) == expected
    assert alone(batcher, ticket("other", adapter="final")) == expected


def test_conversations_share_what_their_chat_format_opens_with(batcher: EmbeddedBatcher) -> None:
    system = "Two friends talk, and one of them knows a little of everything."
    chat_format = ChatFormat.of(batcher.engine.tokenizer, system)
    asked: dict[str, list[Message]] = {
        "a": [{"role": "user", "content": "Once upon"}],
        "b": [{"role": "user", "content": "Thrice"}],
        "own": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Thrice"}],
    }
    sampling = Sampling(temperature=0.8, max_tokens=12)
    tickets = [
        Ticket(Request(key, chat_format.render(messages), "", sampling, seed=5, chat_format=True))
        for key, messages in asked.items()
    ]
    expected = {one.request.key: alone(batcher, one) for one in tickets}
    assert batcher.chat_format(system) == chat_format
    for one in tickets:
        batcher.add(one)
    lanes = {lane.prefix.length: [row.request.key for row in lane.waiting] for lane in batcher.lanes.values()}
    assert lanes == {len(f"{system}\n\n### User\n"): ["a", "b"], 0: ["own"]}
    found = drain(batcher)
    assert {key: text_of(news) for key, news in found.items()} == expected
    read = [news[-1].completion.tokens.prompt for news in found.values() if news[-1].completion]
    assert read == [len(one.request.prompt) for one in tickets]


def test_what_cannot_be_taken_is_told_before_anything_is_written(batcher: EmbeddedBatcher) -> None:
    with pytest.raises(UserError, match="the context holds 1024"):
        batcher.add(ticket("long", "x" * 2000))
    with pytest.raises(UserError, match="the prompt is empty"):
        batcher.add(ticket("empty", ""))
    assert not batcher.is_busy


def test_log_probabilities_are_the_models_own_whatever_the_temperature(batcher: EmbeddedBatcher) -> None:
    batcher.add(ticket("k", "Once", top=3))
    chances = [chance for one in drain(batcher)["k"] for chance in one.chances]
    assert len(chances) == 12
    for chance in chances:
        values = [value for _, value in chance.likeliest]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert chance.log_probability <= values[0] <= 0
    greedy = Request("g", "Once", sampling=Sampling(temperature=0.0, max_tokens=1))
    batcher.add(Ticket(greedy, "", 1))
    (progress,) = drain(batcher)["g"]
    (score,) = batcher.engine.score([("Once", progress.text)])
    assert progress.chances[0].log_probability == pytest.approx(score.log_probability, abs=1e-4)


def test_tokens_are_counted_as_they_are_read(batcher: EmbeddedBatcher) -> None:
    assert batcher.count("abc", False, PREFIX) == 3 + len(PREFIX)
    assert batcher.count("abc<|end|>", True) == 4
    assert batcher.count("abc<|end|>", False) == 3 + len("<|end|>")


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens of every pass from now on."""
    sizes: list[int] = []
    forward = decoder.forward

    def counting(model: Any, ids: Any, *rest: Any) -> Any:
        sizes.append(len(ids))
        return forward(model, ids, *rest)

    monkeypatch.setattr(decoder, "forward", counting)
    return sizes


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_turn_that_goes_on_from_an_earlier_one_reads_only_what_is_new(
    batcher: EmbeddedBatcher, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    first = "Tell me of the sea, and of those who sail it. " * 8
    second = first + alone(batcher, ticket("one", first, prefix=prefix)) + " And what came of it? "
    sizes = passes(monkeypatch)
    texts = [alone(batcher, ticket("two", second, name, prefix)) for name in ("", "final")]
    assert [size for size in sizes if size > len(first)] == [len(second.encode())]  # under the other adapter alone
    batcher.histories.clear()
    assert [alone(batcher, ticket("two", second, name, prefix)) for name in ("", "final")] == texts


def test_who_goes_on_may_share_the_batch_with_whoever_does_not(batcher: EmbeddedBatcher) -> None:
    long = "Tell me of the sea, and of those who sail it. " * 8
    several = [ticket("new", "Once upon"), ticket("more", f"{long}And then? "), ticket("other", "Twice")]
    expected = {one.request.key: alone(batcher, one) for one in several}
    batcher.histories.clear()
    alone(batcher, ticket("earlier", long))
    for one in several:
        batcher.add(one)
    assert {key: text_of(news) for key, news in drain(batcher).items()} == expected


def test_histories_grow_out_of_each_other_and_the_oldest_go_first() -> None:
    cache = SlotCache(tiny_model().config, 1, 2000, torch.float32, torch.device("cpu"))
    histories = Histories(1000)
    base, final = histories.under("base"), histories.under("final")
    ids = list(range(900))
    base.keep(ids[:100], cache, 0)
    assert not histories.kept
    base.keep(ids[:300], cache, 0)
    base.keep(ids[:290] + ids[500:700], cache, 0)
    assert [len(history.ids) for history in histories.kept.values()] == [490]
    final.keep(ids[:400], cache, 0)
    assert final.find(ids).length == 400  # type: ignore[union-attr]
    assert base.find(ids).length == 290  # type: ignore[union-attr]
    assert base.find(ids[1:]) is None
    base.keep(ids[600:], cache, 0)
    assert [history.ids[0] for history in histories.kept.values()] == [0, 600]
    assert final.find(ids) is None
