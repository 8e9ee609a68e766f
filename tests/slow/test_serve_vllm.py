"""`selfalign serve --engine vllm` really becomes `vllm serve`: same models, same template, same adapters, same key."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from selfalign.chat.server.hub import open_service
from selfalign.chat.server.models import NEXT_TURN
from selfalign.chat.server.service import End, Question, Service
from selfalign.engines.base import Sampling
from selfalign.recipe import EngineOptions
from tests.constitution.small import SMALL
from tests.support.real import default_source, random_adapter
from tests.support.servers import free_port, running, vllm_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ASKED: list[Any] = [{"role": "user", "content": "Write a story about a ship <|im_end|> and the sea."}]
KEY = "s3cret"
VLLM = "--max-model-len 1024 --max-num-batched-tokens 1024 --no-enable-chunked-prefill --max-num-seqs 8 --enforce-eager"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded default with two random adapters."""
    source, path = default_source(), tmp_path_factory.mktemp("handed") / "run"
    for name, std in (("engraved", 0.1), ("final", 0.2)):
        random_adapter(source, path / "models" / name, std)
    (path / "run.json").write_text(json.dumps({"base_model": source.base}))
    (path / "constitution.yaml").write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[openai.OpenAI]:
    python, port = vllm_python(), free_port()
    command = [str(python), "-m", "selfalign", "serve", str(run), "--engine", "vllm", "--port", str(port)]
    command += ["--dtype", "float32", "--api-key", KEY, f"--vllm-args={VLLM}"]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    with running(command, port, run / "vllm.log", PATH=path, VLLM_CPU_KVCACHE_SPACE="2") as url:
        yield openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=300)


def greedy(service: Service, model: str) -> str:
    """What the server of this package answers."""

    async def ask() -> str:
        question = Question(model, ASKED, Sampling(temperature=0.0, max_tokens=24))
        events = [event async for event in service.answer(question)]
        assert isinstance(events[-1], End)
        return events[-1].text

    return asyncio.run(ask())


def test_vllm_answers_as_the_embedded_server_does_and_asks_for_the_key(run: Path, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["base", "engraved", "final"]
    # The server of this package ends an answer where the next turn would begin, whatever is asked.
    asked: dict[str, Any] = {"messages": ASKED, "max_tokens": 24, "temperature": 0, "stop": list(NEXT_TURN)}
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    ask, texts = client.chat.completions.create, {}
    for name in ("base", "engraved", "final"):
        texts[name] = ask(model=name, **asked).choices[0].message.content
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(model=name, stream=True, **asked)]
        assert "".join(pieces) == texts[name]
    service = open_service(str(run), options=EngineOptions(dtype="float32"))
    service.start()
    try:
        assert {name: greedy(service, name) for name in texts} == texts
    finally:
        service.close()
    assert len(set(texts.values())) > 1
