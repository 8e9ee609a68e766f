"""What every engine must do. An engine's test file subclasses `Conformance` and brings an `engine` fixture.

The tests ask nothing of the text itself, so they hold for the scripted engine, for random weights and for a server.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from selfalign.engines.base import Completion, Engine, Request, Sampling
from selfalign.errors import UserError

PREFIX = "A prefix that all of them share, long enough to be worth keeping.\n"


def requests(count: int = 9, **sampling: object) -> list[Request]:
    """Every other one under a shared prefix."""
    settings = Sampling(**({"temperature": 0.9, "max_tokens": 12} | sampling))  # type: ignore[arg-type]
    return [Request(f"k{i}", f"Question {i}?", PREFIX if i % 2 else "", settings, seed=i) for i in range(count)]


def by_key(completions: Iterable[Completion]) -> dict[str, Completion]:
    found = list(completions)
    assert len({completion.key for completion in found}) == len(found)
    return {completion.key: completion for completion in found}


def repetition_count(text: str, n: int = 3) -> int:
    """How many n-grams of words stand in `text` for the second time or later."""
    words = text.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(grams) - len(set(grams))


class Conformance:
    """The suite."""

    samples_repeat = True
    """Whether the same seed gives the same sample (False where an engine's `describe` says that seeds are lost)."""
    scores = True
    """Whether the engine can score at all."""
    context_length = 1024
    """Tokens that the engine's context holds; a longer prompt must be refused."""

    def test_every_request_is_answered_once(self, engine: Engine) -> None:
        assert set(by_key(engine.generate(requests()))) == {f"k{i}" for i in range(9)}

    def test_the_same_requests_give_the_same_again_in_any_order(self, engine: Engine) -> None:
        temperature = 0.9 if self.samples_repeat else 0.0
        once = by_key(engine.generate(requests(temperature=temperature)))
        again = by_key(engine.generate(reversed(requests(temperature=temperature))))
        assert {k: c.text for k, c in once.items()} == {k: c.text for k, c in again.items()}

    def test_no_completion_is_longer_than_asked_for(self, engine: Engine) -> None:
        for completion in engine.generate(requests(max_tokens=3)):
            assert completion.tokens.completion <= 3
            assert completion.finish_reason in ("length", "eos", "stop")

    def test_tokens_are_counted(self, engine: Engine) -> None:
        short, long = (by_key(engine.generate(requests(2)))[key].tokens for key in ("k0", "k1"))
        assert 0 < short.prompt < long.prompt  # the second has the shared prefix in front of it
        assert long.completion > 0

    def test_a_stop_string_ends_the_text_and_is_not_part_of_it(self, engine: Engine) -> None:
        whole = by_key(engine.generate(requests(max_tokens=30, temperature=0.0)))["k1"].text
        stop = whole[5:7]
        stopped = by_key(engine.generate(requests(max_tokens=30, temperature=0.0, stop=(stop,))))["k1"]
        assert (stopped.text, stopped.finish_reason) == (whole[: whole.find(stop)], "stop")

    def test_streamed_pieces_make_the_completion(self, engine: Engine) -> None:
        for request in requests(temperature=0.0):
            assert "".join(engine.stream(request)) == next(iter(engine.generate([request]))).text

    def test_closing_the_iterator_cancels_the_rest(self, engine: Engine) -> None:
        answers = iter(engine.generate(requests(40)))
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert len(by_key(engine.generate(requests(3)))) == 3

    def test_a_prompt_beyond_the_context_is_refused_and_the_others_go_on(self, engine: Engine) -> None:
        long = Request("long", "x " * 2 * self.context_length, "", Sampling(max_tokens=4))
        answered = by_key(engine.generate([long, *requests(2)]))
        assert set(answered) == {"long", "k0", "k1"}
        assert (answered["long"].finish_reason, answered["long"].text) == ("refused", "")
        assert str(self.context_length) in answered["long"].refusal
        assert answered["k0"].finish_reason != "refused"

    def test_an_empty_prompt_is_refused(self, engine: Engine) -> None:
        answered = by_key(engine.generate([Request("none", ""), Request("only prefix", "", PREFIX), *requests(1)]))
        assert [answered[key].finish_reason for key in ("none", "only prefix")] == ["refused", "refused"]
        assert answered["none"].refusal == "the prompt is empty"

    def test_a_refused_stream_says_why(self, engine: Engine) -> None:
        with pytest.raises(UserError, match="the prompt is empty"):
            list(engine.stream(Request("none", "")))

    def test_scores_come_in_order_and_are_log_probabilities(self, engine: Engine) -> None:
        if not self.scores:
            pytest.skip("cannot score")
        pairs = [("The sky is", " blue"), ("The sky is", " a blue that nobody has painted"), ("One and", " two")]
        together = engine.score(pairs)
        assert [score.log_probability for score in together] == pytest.approx(
            [engine.score([pair])[0].log_probability for pair in pairs], abs=1e-3
        )
        assert all(score.log_probability < 0 < score.token_count for score in together)

    def test_no_request_no_completion(self, engine: Engine) -> None:
        assert list(engine.generate([])) == []
        assert engine.score([]) == [] or not self.scores

    def test_it_says_what_it_is(self, engine: Engine) -> None:
        assert engine.describe()["kind"]
        assert engine.chat_format("s").render([{"role": "user", "content": "Hi"}]).endswith("### Assistant\n")


class RealModelConformance(Conformance):
    """The suite for engines that hold the embedded default in float32, compared with the embedded engine.

    Brings in `reference`, an open embedded engine of the same model in float32, from the subclass.
    """

    context_length = 2048

    prompts = tuple(
        f"{verb} {subject}.\n"
        for verb in ("Describe", "Explain", "Praise", "Question", "List uses of")
        for subject in (
            "a lighthouse", "the tax on salt", "sourdough", "two rivers", "a broken clock",
            "the colour green", "a chess game", "winter wheat", "an old map", "the violin",
        )
    )  # fmt: skip

    def greedy(self, engine: Engine, **sampling: object) -> dict[str, str]:
        settings = dataclasses.replace(Sampling(temperature=0.0, max_tokens=24), **sampling)  # type: ignore[arg-type]
        asked = [Request(prompt, prompt, PREFIX, settings) for prompt in self.prompts]
        return {key: completion.text for key, completion in by_key(engine.generate(asked)).items()}

    def test_greedy_texts_equal_the_embedded_engines(self, engine: Engine, reference: Engine) -> None:
        expected = self.greedy(reference)
        assert self.greedy(engine) == expected
        assert len(set(expected.values())) > 40

    def test_ngram_penalties_are_the_embedded_engines(self, engine: Engine, reference: Engine) -> None:
        penalties: dict[str, object] = {"ngram_penalties": (0.0, 0.0, 1.0, 2.0), "max_tokens": 48}
        expected = self.greedy(reference, **penalties)
        assert expected != self.greedy(reference, max_tokens=48)
        assert self.greedy(engine, **penalties) == expected

    def test_scores_are_the_embedded_engines(self, engine: Engine, reference: Engine) -> None:
        if not self.scores:
            pytest.skip("cannot score")
        pairs = [(PREFIX + prompt, text) for prompt in self.prompts[:10] for text in (" It is old.", " No one knows.")]
        ours, theirs = engine.score(pairs), reference.score(pairs)
        assert [score.log_probability for score in ours] == pytest.approx(
            [score.log_probability for score in theirs], abs=1e-3
        )
        assert [score[1:] for score in ours] == [score[1:] for score in theirs]
