"""Loading a model for a server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from selfalign.chat.server.hub import from_thread, model_name, open_service, run_adapters
from selfalign.engines.embedded import batcher
from selfalign.engines.embedded.batcher import EmbeddedBatcher
from selfalign.errors import UserError
from tests.support.tiny import tiny_model_dir


def test_the_thread_that_loaded_a_model_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders: list[threading.Thread] = []

    class Noting(EmbeddedBatcher):
        def __init__(self, *arguments: object) -> None:
            loaders.append(threading.current_thread())
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batcher, "EmbeddedBatcher", Noting)
    service = open_service(str(tiny_model_dir(tmp_path / "model")))
    service.close()
    assert loaders and loaders[0] is not threading.main_thread()
    assert not loaders[0].is_alive()


def test_what_loading_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="no such thing"):
        from_thread(lambda: int("no such thing"))


def test_a_run_whose_models_are_whole_is_not_served_as_its_bare_base(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    assert run_adapters(run) == {}
    final = tiny_model_dir(run / "models" / "final")
    with pytest.raises(UserError, match=r"final were trained whole \(method: full\)") as caught:
        run_adapters(run)
    assert caught.value.hint == f"serve one of them: selfalign serve {final}"


def test_a_model_is_called_as_its_directory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "final").mkdir()
    monkeypatch.chdir(tmp_path / "final")
    assert [model_name(name) for name in (".", "./", "../final/", "..")] == ["final"] * 3 + [tmp_path.name]
    assert model_name("Qwen/Qwen3-0.6B-Base") == "Qwen3-0.6B-Base"
