"""Opening an engine by name. Only the runner and the command line do this."""

from __future__ import annotations

from functools import partial

from selfalign.engines.base import Engine
from selfalign.engines.embedded.loading import resolve_model
from selfalign.recipe import EngineOptions


def open_engine(options: EngineOptions, model: str) -> Engine:
    """The engine that `options` name, with `model` loaded. Each engine's libraries are imported only here."""
    match options.kind:
        case "scripted":
            from selfalign.engines.scripted import ScriptedEngine, load_script

            return ScriptedEngine(load_script(options.script))
        case "vllm":
            from selfalign.engines.vllm.engine import VllmEngine

            return VllmEngine(resolve_model(model), options)
        case "openai":
            from selfalign.engines.openai.engine import OpenAIEngine

            return OpenAIEngine(resolve_model(model), options)
        case "ray":
            from selfalign.engines.ray.engine import RayEngine

            inside = options.model_copy(update={"kind": options.inside})
            return RayEngine(partial(open_engine, inside, model), options)
        case "embedded":
            from selfalign.engines.embedded.engine import EmbeddedEngine

            return EmbeddedEngine(resolve_model(model), options)
