"""From what a user names to a service: the models of a run on one set of base weights."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selfalign.chat.server.models import ServedModel, under_principles
from selfalign.chat.server.service import Service
from selfalign.constitution.loading import load_constitution
from selfalign.constitution.schema import Constitution, StyleName
from selfalign.engines.batching import Batcher
from selfalign.engines.embedded.loading import Source, resolve_model
from selfalign.engines.scripted import Script
from selfalign.errors import UserError
from selfalign.recipe import EngineOptions

Made = TypeVar("Made")

BASE = "base"
TUNED = ("engraved", "final")


def open_service(
    model: str,
    constitution: str = "dromedary",
    style: StyleName = "standard",
    options: EngineOptions | None = None,
    **limits: Any,
) -> Service:
    """The service of a run (base, base+principles and its tuned models), or of one model with and without principles.

    A run brings its own constitution. `limits` are the service's.
    """
    from selfalign.engines.embedded.batcher import EmbeddedBatcher

    def load(source: Source, adapters: dict[str, Path] | None = None) -> Batcher:
        return from_thread(lambda: EmbeddedBatcher(source, options, adapters))

    run = Path(model).expanduser()
    rules = load_constitution(str(run / "constitution.yaml") if is_run(run) else constitution)
    if is_run(run):
        adapters = run_adapters(run)
        batcher = load(run_base(run, adapters), adapters)
        name, default = BASE, list(adapters)[-1] if adapters else BASE
    else:
        batcher = load(resolve_model(model))
        name = default = model_name(model)
    return Service(batcher, models_on(batcher, name, rules, style), default, **limits)


def from_thread(make: Callable[[], Made]) -> Made:
    """What `make` gives or raises, in a thread that has ended by then.

    Every thread that ever computed keeps OpenMP workers of its own until it ends, and where there are more of them than
    cores they no longer wait for each other awake. A model loaded by the main thread and stepped by another wrote 17
    tokens/s for one user and 230 for 16, and 31 and 300 where the loading thread was gone (2 cores).
    """
    done: list[Made] = []
    faults: list[BaseException] = []

    def work() -> None:
        try:
            done.append(make())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=work, name="loading", daemon=True)  # Ctrl-C does not wait for it
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return done[0]


def scripted_service(
    script: Script,
    constitution: Constitution | None = None,
    pause: float = 0.0,
    context_length: int = 4096,
    **limits: Any,
) -> Service:
    """A service that answers with a function of the request, a word a step: for tests, and for looking at a page."""
    from selfalign.engines.scripted_batcher import ScriptedBatcher

    batcher = ScriptedBatcher(script, context_length, pause)
    rules = constitution or load_constitution("dromedary")
    return Service(batcher, models_on(batcher, "scripted", rules, "standard"), **limits)


def models_on(batcher: Batcher, name: str, constitution: Constitution, style: StyleName) -> list[ServedModel]:
    """The base as `name`, the same under the principles, and each adapter under its own name."""
    chat_format = batcher.chat_format(constitution.style(style))
    tuned = [ServedModel(adapter, chat_format, adapter) for adapter in batcher.adapters if adapter]
    return [ServedModel(name, chat_format), under_principles(name, chat_format, constitution), *tuned]


def model_name(model: str) -> str:
    """What one model is served as: the last part of its Hub id or path; `.` and `..` as their directory is called."""
    path = Path(model).expanduser()
    return path.resolve().name if path.name in ("", "..") else path.name


def is_run(path: Path) -> bool:
    """Whether it is a run directory."""
    return (path / "run.json").is_file()


def run_adapters(run: Path) -> dict[str, Path]:
    """The tuned models that a run has so far. Models that were trained whole are a UserError, not left out silently."""
    whole = [run / "models" / name for name in TUNED if (run / "models" / name / "config.json").is_file()]
    whole = [model for model in whole if not (model / "adapter_config.json").is_file()]
    if whole:
        raise UserError(
            f"{run}: {' and '.join(model.name for model in whole)} were trained whole (method: full), and a run's "
            "models are served as adapters on one copy of its base",
            f"serve one of them: selfalign serve {whole[-1]}",
        )
    return {name: run / "models" / name for name in TUNED if (run / "models" / name / "adapter_config.json").is_file()}


def run_base(run: Path, adapters: dict[str, Path]) -> Source:
    """The base that the adapters name, which must be one; without any, the one of the run's recipe."""
    sources = {name: resolve_model(str(folder)) for name, folder in adapters.items()}
    if len({source.base for source in sources.values()}) > 1:
        raise UserError(
            f"{run}: the adapters stand on several bases: "
            + ", ".join(f"{name} on {source.base}" for name, source in sources.items()),
            f"serve one of them: selfalign serve {run / 'models' / next(iter(sources))}",
        )
    for source in sources.values():
        return Source(str(run), source.base, None)
    try:
        return resolve_model(str(json.loads((run / "run.json").read_text(encoding="utf-8"))["base_model"]))
    except (ValueError, KeyError, TypeError) as fault:
        raise UserError(f"{run}/run.json does not name a base model", f"selfalign status {run}") from fault
