"""The conformance suite on the engines that need no weights; the others have it in files of their own."""

from __future__ import annotations

import pytest

from selfalign.engines.base import Engine
from selfalign.engines.embedded.engine import EmbeddedEngine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.engines.scripted import ScriptedEngine
from selfalign.recipe import EngineOptions
from tests.engines.conformance import Conformance
from tests.support.tiny import tiny_model_dir


class TestScripted(Conformance):
    context_length = 4096

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        return ScriptedEngine(
            lambda request: f"Answer {request.seed % 7} to {request.prompt}, and more\nof it, at length.",
            context_length=cls.context_length,
        )


class TestEmbedded(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tmp_path_factory: pytest.TempPathFactory) -> Engine:
        path = tiny_model_dir(tmp_path_factory.mktemp("model"))
        return EmbeddedEngine(resolve_model(str(path)), EngineOptions(dtype="float32", batch_size=4))
