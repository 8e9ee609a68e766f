"""What generates text: one section for all engines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selfalign.recipe.section import Count, Positive, Probability, Section, option

EngineKind = Literal["embedded", "vllm", "openai", "ray", "scripted"]


class EngineOptions(Section):
    """What generates text. `engine: vllm` is short for `engine: {kind: vllm}`."""

    kind: EngineKind = option(
        "embedded", "embedded (transformers), vllm, openai (a server), ray (many machines), scripted"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "auto is bfloat16 where the CPU or GPU computes in it"
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] = option(
        64, "sequences generated at once; fewer where memory ends"
    )
    memory_gib: Annotated[float, Field(ge=0)] = option(
        0.0,
        "embedded: most GiB for sequences and prefixes beside the weights; 0 takes what is free",
        affects_data=False,
    )
    tensor_parallel_size: Positive = option(1, "vllm: devices that share one copy of the model", affects_data=False)
    pipeline_parallel_size: Positive = option(1, "vllm: stages that the layers are cut into", affects_data=False)
    gpu_memory_utilization: Probability = option(0.9, "vllm: share of a GPU's memory to use", affects_data=False)
    max_model_len: Count = option(0, "vllm: longest prompt and completion in tokens; 0 is the model's own")
    base_url: str = option("http://127.0.0.1:8000/v1", "openai: where the server is", affects_data=False)
    served_model: str = option("", "openai: the base model's name on the server; empty takes its first")
    token_prompts: bool = option(
        False, "openai: send token ids for exactly the embedded engine's prompts (vLLM, llama.cpp)"
    )
    concurrency: Positive = option(64, "openai: requests in flight at once", affects_data=False)
    timeout: Annotated[float, Field(gt=0)] = option(
        300.0, "openai: seconds that a request may take", affects_data=False
    )
    retries: Count = option(6, "openai: times that a request is sent again before the run ends", affects_data=False)
    inside: Literal["embedded", "vllm", "scripted"] = option("embedded", "ray: the engine that every replica hosts")
    replicas: Positive = option(1, "ray: copies of the model", affects_data=False)
    address: str = option(
        "", "ray: the cluster's address; empty joins $RAY_ADDRESS or starts one here", affects_data=False
    )
    script: str = option("", "scripted engine only: module:function that answers a request")

    @property
    def computing(self) -> str:
        """The kind that computes: ray only spreads the work of the one inside."""
        return self.inside if self.kind == "ray" else self.kind

    @property
    def has_weights(self) -> bool:
        """Whether there is a model to train."""
        return self.computing != "scripted"

    @model_validator(mode="before")
    @classmethod
    def _named_by_one_word(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value
