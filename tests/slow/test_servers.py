"""The openai engine against real servers on loopback: llama.cpp's and vLLM's, compared with the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign.engines.base import Engine, Request, Sampling
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.gguf import default_gguf
from selfalign.engines.embedded.loading import Source, resolve_model
from selfalign.engines.openai.engine import OpenAIEngine
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions
from tests.engines.conformance import Conformance, RealModelConformance, by_key, requests
from tests.support.real import default_source, random_adapter
from tests.support.servers import llama_cpp, vllm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONTEXT = 2048


@pytest.fixture(scope="module")
def source() -> Source:
    return default_source()


@pytest.fixture(scope="module")
def reference(source: Source) -> Iterator[Engine]:
    engine = EmbeddedEngine(source, EngineOptions(dtype="float32"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


def open_engine(source: Source, url: str, **options: object) -> OpenAIEngine:
    settings = {"kind": "openai", "base_url": url, "token_prompts": True, "concurrency": 8} | options
    return OpenAIEngine(source, EngineOptions.model_validate(settings))


class NoNgramPenalties:
    """In place of the suite's test: a server has none, and says so before anything is sent."""

    def test_ngram_penalties_are_the_embedded_engines(self, engine: Engine) -> None:
        penalised = requests(3, ngram_penalties=(0.0, 0.0, 1.0, 2.0))
        with pytest.raises(UserError, match="n-gram penalties") as failed:
            list(engine.generate(penalised))
        assert "elaborations.ngram_penalties" in failed.value.hint


class TestLlamaCppAsShipped(Conformance):
    """The embedded default's own file, whose weights are Q4_1: its texts are nobody else's. Prompts go as text."""

    scores = False

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, source: Source, folder: Path) -> Iterator[OpenAIEngine]:
        with llama_cpp(default_gguf(), folder, cls.context_length) as url:
            engine = open_engine(source, url, token_prompts=False)
            yield engine
            engine.close()

    def test_scoring_is_refused(self, engine: Engine) -> None:
        with pytest.raises(UserError, match="no echo"):
            engine.score([("The sky is", " blue")])

    def test_a_bias_moves_the_first_word(self, engine: Engine) -> None:
        sampling = Sampling(0.0, max_tokens=1, logit_bias={" purple": 100.0})
        assert next(iter(engine.generate([Request("a", "The sky is", sampling=sampling)]))).text == " purple"


class TestLlamaCppInFloat32(NoNgramPenalties, RealModelConformance):
    """The weights that the embedded engine computes with, written out as float32."""

    scores = False
    context_length = CONTEXT

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, source: Source, folder: Path) -> Iterator[OpenAIEngine]:
        gguf = unpacked(default_gguf(), folder / "float32.gguf")
        with llama_cpp(gguf, folder, cls.context_length) as url:
            engine = open_engine(source, url)
            yield engine
            engine.close()


class TestVllm(NoNgramPenalties, RealModelConformance):
    context_length = CONTEXT

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, source: Source, folder: Path) -> Iterator[str]:
        with vllm(source.base, folder, cls.context_length) as url:
            yield url

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, source: Source, url: str) -> Iterator[OpenAIEngine]:
        engine = open_engine(source, url)
        yield engine
        engine.close()

    def test_text_prompts_are_answered_too(self, source: Source, url: str, engine: Engine) -> None:
        """The seam between prefix and prompt is a newline here, which no token spans: the texts are the same."""
        by_text = open_engine(source, url, token_prompts=False)
        assert self.greedy(by_text) == self.greedy(engine)
        by_text.close()

    def test_the_servers_sampling_defaults_do_not_apply(self, engine: Engine) -> None:
        """Its generation_config may set a temperature; ours is 0, so two samples are the same."""
        asked = [
            Request(f"k{seed}", "Once upon a time", sampling=Sampling(0.0, max_tokens=16), seed=seed) for seed in (1, 2)
        ]
        assert len({completion.text for completion in engine.generate(asked)}) == 1

    def test_min_tokens_and_bias(self, engine: Engine) -> None:
        sampling = Sampling(0.0, max_tokens=8, min_tokens=8, logit_bias={" purple": 100.0})
        completion = next(iter(engine.generate([Request("a", "The sky is", sampling=sampling)])))
        assert (completion.text, completion.tokens.completion) == (" purple" * 8, 8)


def test_vllm_loads_an_adapter_and_answers_as_the_embedded_engine_does(source: Source, folder: Path) -> None:
    adapted = resolve_model(str(random_adapter(source, folder / "engraved")))
    with vllm(source.base, folder, CONTEXT, adapters=True) as url:
        texts = [answered(open_engine(model, url)) for model in (adapted, source)]
        served = open_engine(adapted, url)
        assert served.describe()["served_model"] == "engraved"
        with pytest.raises(UserError, match="adapters"):
            served.score([("The sky is", " blue")])
        served.close()
    embedded = [answered(EmbeddedEngine(model, EngineOptions(dtype="float32"))) for model in (adapted, source)]
    assert texts == embedded
    assert sum(texts[0][key] != texts[1][key] for key in texts[0]) >= 4


def answered(engine: Engine) -> dict[str, str]:
    """Greedy texts, and the engine closed."""
    try:
        return {key: found.text for key, found in by_key(engine.generate(requests(8, temperature=0.0))).items()}
    finally:
        engine.close()


def unpacked(gguf_file: Path, target: Path) -> Path:
    """The GGUF file with its weights as the embedded engine has them: unpacked and rounded to bfloat16, as float32."""
    import gguf
    import torch

    reader = gguf.GGUFReader(gguf_file)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != gguf.Keys.General.ARCHITECTURE:
            kind = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=kind)
    for tensor in reader.tensors:
        weights = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        writer.add_tensor(tensor.name, weights.bfloat16().float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
