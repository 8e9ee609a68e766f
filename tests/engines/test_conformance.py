"""What every engine must do. A new engine is added to `ENGINES` and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from selfalign.engines.base import Completion, Engine, Request, Sampling
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.engines.scripted import ScriptedEngine
from tests.support.tiny import tiny_model_dir

PREFIX = "A prefix that all of them share.\n"


def scripted(_: Path) -> Engine:
    return ScriptedEngine(lambda request: f"Answer {request.seed % 7} to {request.prompt}, and more\nof it, at length.")


def embedded(path: Path) -> Engine:
    return EmbeddedEngine(resolve_model(str(tiny_model_dir(path))), dtype="float32", batch_size=4)


ENGINES: tuple[Callable[[Path], Engine], ...] = (scripted, embedded)


@pytest.fixture(scope="module", params=ENGINES, ids=lambda make: make.__name__)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    made: Engine = request.param(tmp_path_factory.mktemp("engine"))
    return made


def requests(**sampling: object) -> list[Request]:
    settings = Sampling(**({"temperature": 0.9, "max_tokens": 12} | sampling))  # type: ignore[arg-type]
    return [Request(f"k{i}", f"Question {i}?", PREFIX if i % 2 else "", settings, seed=i) for i in range(9)]


def by_key(completions: list[Completion]) -> dict[str, Completion]:
    assert len({completion.key for completion in completions}) == len(completions)
    return {completion.key: completion for completion in completions}


def test_every_request_is_answered_once(engine: Engine) -> None:
    assert set(by_key(list(engine.generate(requests())))) == {f"k{i}" for i in range(9)}


def test_the_same_requests_give_the_same_again_in_any_order(engine: Engine) -> None:
    assert by_key(list(engine.generate(requests()))) == by_key(list(engine.generate(reversed(requests()))))


def test_no_completion_is_longer_than_asked_for(engine: Engine) -> None:
    for completion in engine.generate(requests(max_tokens=3)):
        assert completion.tokens.completion <= 3


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(engine: Engine) -> None:
    whole = by_key(list(engine.generate(requests(max_tokens=30))))["k1"].text
    stop = whole[5:7]
    stopped = by_key(list(engine.generate(requests(max_tokens=30, stop=(stop,)))))["k1"]
    assert (stopped.text, stopped.finish_reason) == (whole[: whole.find(stop)], "stop")


def test_streamed_pieces_make_the_completion(engine: Engine) -> None:
    for request in requests():
        assert "".join(engine.stream(request)) == next(iter(engine.generate([request]))).text


def test_scores_come_in_order_and_are_log_probabilities(engine: Engine) -> None:
    pairs = [("The sky is", " blue"), ("The sky is", " a blue that nobody has painted"), ("One and", " two")]
    together = engine.score(pairs)
    assert [round(score.log_probability, 3) for score in together] == [
        round(engine.score([pair])[0].log_probability, 3) for pair in pairs
    ]
    assert all(score.log_probability < 0 < score.token_count for score in together)


def test_no_request_no_completion(engine: Engine) -> None:
    assert list(engine.generate([])) == []
    assert engine.score([]) == []


def test_it_says_what_it_is(engine: Engine) -> None:
    assert engine.describe()["kind"] in ("scripted", "embedded")
    assert engine.chat_format("s").render([{"role": "user", "content": "Hi"}]).endswith("### Assistant\n")
