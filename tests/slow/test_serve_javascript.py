"""The official JavaScript client (npm `openai`, under node) against the server on loopback, its answers scripted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from selfalign.chat.server.hub import scripted_service
from selfalign.engines.base import Request
from tests.support.listening import listening
from tests.support.runs import small_constitution

pytestmark = pytest.mark.slow

MODULES = "SELFALIGN_OPENAI_JS"
"""Environment variable: the node_modules folder that holds the package."""


def node_and_modules() -> tuple[str, str]:
    """Where they are; the test is skipped where they are not, and says what to install."""
    node, modules = shutil.which("node"), os.environ.get(MODULES, "node_modules")
    if not node:
        pytest.skip("node is not installed: apt-get install nodejs, or https://nodejs.org")
    if not Path(modules, "openai", "package.json").is_file():
        pytest.skip(f"npm's openai is not in {modules}: npm install --prefix DIR openai, {MODULES}=DIR/node_modules")
    return node, modules


def script(request: Request) -> str:
    return "word " * 2000 if "at length" in request.prompt else "Red, green and blue."


def test_the_javascript_client_asks_streams_is_refused_and_leaves() -> None:
    node, modules = node_and_modules()
    with listening(scripted_service(script, small_constitution(), pause=0.005)) as server:
        command = [node, str(Path(__file__).with_name("openai_client.mjs")), server.url, modules]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert server.until_idle()
    found = json.loads(done.stdout)
    assert found["models"] == ["scripted", "scripted+principles"]
    assert found["whole"]["choices"][0]["message"]["content"] == "Red, green and blue."
    assert [piece for piece in found["pieces"] if piece] == ["Red,", " green", " and", " blue."]
    assert found["usage"]["completion_tokens"] == 4
    assert found["gathered"] == found["raw"] == "Red, green and blue."
    assert found["fault"] == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert found["left"].startswith("chatcmpl-")
