"""selfalign's own engine, given text as a stage gives it."""

from __future__ import annotations

import importlib.metadata

from benchmarks.engines.job import Job, Loaded, Work


def load(job: Job) -> Loaded:
    """The engine with its default settings but for the batch size and the number type."""
    from selfalign.engines.base import Request, Sampling
    from selfalign.engines.embedded.engine import EmbeddedEngine
    from selfalign.engines.embedded.loading import resolve_model
    from selfalign.recipe import EngineOptions

    options = EngineOptions.model_validate({"kind": "embedded", "dtype": job.dtype, **job.options})
    engine = EmbeddedEngine(resolve_model(job.model), options)

    def run(work: Work, new_tokens: int) -> list[int]:
        sampling = Sampling(job.temperature, job.top_p, max_tokens=new_tokens, min_tokens=new_tokens)
        requests = [
            Request(str(index), prompt, work.prefix, sampling, seed=index) for index, prompt in enumerate(work.prompts)
        ]
        answers = {int(answer.key): answer for answer in engine.generate(requests)}
        read = [answers[index].tokens.prompt for index in range(len(requests))]
        if read != [len(ids) for ids in work.sequences]:
            raise ValueError(
                f"the engine read {read} tokens of the prompts, the others {len(work.prefix_ids)} and more"
            )
        return [answers[index].tokens.completion for index in range(len(requests))]

    settings = {"batch_size": options.batch_size, "memory_gib": options.memory_gib} | engine.describe()
    settings.pop("model", None)
    return Loaded(
        run, settings, {name: importlib.metadata.version(name) for name in ("selfalign", "torch", "transformers")}
    )
