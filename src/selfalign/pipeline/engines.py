"""Opening an engine by name. Only the runner and the command line do this."""

from __future__ import annotations

from selfalign.engines.base import Engine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.recipe import EngineOptions


def open_engine(options: EngineOptions, model: str) -> Engine:
    """The engine that `options` name, with `model` loaded."""
    if options.kind == "scripted":
        from selfalign.engines.scripted import ScriptedEngine, load_script

        return ScriptedEngine(load_script(options.script))
    from selfalign.engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine(resolve_model(model), dtype=options.dtype, batch_size=options.batch_size)
