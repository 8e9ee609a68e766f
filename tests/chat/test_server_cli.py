"""`selfalign serve`: what it refuses, and what it tells vLLM."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from selfalign.chat.server.listening import open_socket
from selfalign.cli.main import main
from selfalign.cli.serve import is_loopback
from selfalign.errors import UserError
from tests.support.tiny import tiny_model_dir


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "99999"], "--port is 99999"),
        (["--queue", "0"], "--queue is 0"),
        (["--timeout", "inf"], "--timeout is inf"),
        (["--rate", "-1"], "--rate is -1"),
        (["--tensor-parallel-size", "2"], "needs --engine vllm"),
        (["--vllm-args", "--enforce-eager --seed 1"], "needs --engine vllm"),
        (["--engine", "vllm", "--rate", "9"], "--rate needs --engine embedded"),
        (["--engine", "vllm", "--vllm-args='", "--dry-run"], "No closing quotation"),
    ],
)
def test_options_that_no_server_runs_with_are_told(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "smollm2-135m", *flags]) == 2
    assert words in capsys.readouterr().err


def command_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["serve", *arguments, "--engine", "vllm", "--dry-run"]) == 0
    return shlex.split(capsys.readouterr().out)


def test_vllm_is_told_the_model_and_its_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    model = tiny_model_dir(tmp_path / "tiny")
    more = ["--api-key", "s3cret", "--vllm-args=--max-model-len 512 --enforce-eager"]
    command = command_of(capsys, str(model), "--tensor-parallel-size", "2", "--port", "9000", *more)
    assert command[-3:] == ["--max-model-len", "512", "--enforce-eager"]
    assert command[command.index("--served-model-name") + 1] == "tiny"
    assert str(model) in command
    template = Path(command[command.index("--chat-template") + 1]).read_text(encoding="utf-8")
    assert "{% generation %}" in template or "{%- generation %}" in template
    assert command[command.index("--port") + 1] == "9000"
    assert "s3cret" not in " ".join(command)


def test_a_size_that_does_not_divide_the_heads_is_served_padded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    command = command_of(capsys, str(tiny_model_dir(tmp_path / "tiny")), "--tensor-parallel-size", "8")
    assert any("padded-" in word for word in command)


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded() -> None:
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(UserError, match="cannot listen on"):
        open_socket("127.0.0.1", taken.getsockname()[1])


def test_loopback_is_known_by_its_names() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2")))
