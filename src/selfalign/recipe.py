"""The recipe: one YAML file that describes a run. Every option is declared once, meaning and check beside the field."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError
from yaml.constructor import ConstructorError

from selfalign.errors import UserError

Probability = Annotated[float, Field(gt=0.0, le=1.0)]
Temperature = Annotated[float, Field(ge=0.0, le=5.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Price = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no more, and would say so only when training begins


EngineKind = Literal["embedded", "vllm", "openai", "ray", "scripted"]


class Section(BaseModel):
    """Base of every section: an unknown key is a fault, and so is a number that is not finite, or `yes` for one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1, and so would `temperature: yes` be."""
        wanted = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and wanted in (int, float):
            raise PydanticCustomError("number_type", "Input should be a number, not true or false")
        return value


def option(default: Any, meaning: str, *, affects_data: bool = True) -> Any:
    """A field with its meaning. `affects_data=False` marks what may change between two sessions of one run."""
    return Field(default=default, description=meaning, json_schema_extra={"affects_data": affects_data})


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


class SamplingOptions(Section):
    """How to sample."""

    temperature: Temperature = option(1.0, "0 is greedy")
    top_p: Probability = option(0.98, "nucleus sampling mass")
    max_tokens: Positive = option(128, "most new tokens of one completion")


class TopicsOptions(SamplingOptions):
    """Topics brainstormed per instruction type (paper: T 1.0, top-p 0.98)."""

    per_type: Positive = option(8, "topics wanted per type, the human's own included")
    rounds: Positive = option(3, "brainstorming rounds; each sees topics of the ones before")
    hints: Positive = option(10, "topics listed in a prompt")
    max_tokens: Positive = option(64, "most new tokens of one completion")


SourceFormat = Literal["auto", "sharegpt", "messages", "openassistant", "openorca", "dolly", "alpaca", "list"]


class SourceOptions(Section):
    """Instructions that were written elsewhere; of a conversation the first user turn. A bare path is short for it."""

    path: str = option(
        ..., "a .json, .jsonl, .csv, .tsv, .parquet or .txt file (also .gz), a folder of them, or a Hub id"
    )
    format: SourceFormat = option("auto", "auto looks at the keys of each row")
    cap: Count = option(0, "most instructions taken, drawn evenly by the recipe's seed; 0 takes all")
    licence: str = option("", "the licence of the source, kept in every record and told in cards")
    split: str = option("train", "Hub: the split")
    config: str = option("", "Hub: the configuration, where there are several")

    @model_validator(mode="before")
    @classmethod
    def _named_by_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class NoveltyOptions(Section):
    """What counts as new. A number is short for `{kind: rouge, threshold: 0.7}`, a name for `{kind: minhash}`."""

    kind: Literal["rouge", "minhash", "embedding"] = option(
        "rouge", "rouge (exact), minhash (shared runs of words, an estimate), embedding (by meaning)"
    )
    threshold: Probability = option(
        0.7, "highest likeness allowed: ROUGE-L F-measure, Jaccard (minhash: 0.5 if not said), cosine (embedding: 0.9)"
    )
    ngram: Positive = option(2, "minhash: words of a run")
    num_perm: Annotated[int, Field(ge=16, le=1024)] = option(128, "minhash: hashes kept of each text")
    model: str = option("sentence-transformers/all-MiniLM-L6-v2", "embedding: Hub id or directory of the encoder")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, float | int) and not isinstance(value, bool):
            return {"threshold": value}
        if isinstance(value, str):
            value = {"kind": value}
        own = {"minhash": 0.5, "embedding": 0.9}.get(str(value.get("kind"))) if isinstance(value, dict) else None
        return value if own is None else {"threshold": own} | value

    @model_serializer(mode="wrap")
    def _shortest_form(self, whole: SerializerFunctionWrapHandler) -> Any:
        """The number alone where it says everything: keys of records made so before stay what they are."""
        return self.threshold if self == NoveltyOptions(threshold=self.threshold) else whole(self)


class InstructionsOptions(SamplingOptions):
    """Topic-guided red-teaming and self-instruct (paper: T 1.0, top-p 0.98, 5 shots)."""

    sources: tuple[SourceOptions, ...] = option(
        (), "instructions from elsewhere: a list of paths and Hub ids, or of sections that say more:"
    )
    topic_guided: Count = option(80, "accepted topic-guided instructions wanted")
    self_instruct: Count = option(80, "accepted self-instruct instructions wanted")
    shots: Annotated[int, Field(ge=1, le=20)] = option(5, "worked examples in a prompt")
    min_words: Positive = option(4, "fewest words of an instruction")
    max_words: Positive = option(150, "most words of an instruction")
    novelty: NoveltyOptions = option(NoveltyOptions(), "against everything accepted, seeds included")

    @model_serializer(mode="wrap")
    def _without_no_sources(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of records stay what they are where there are no sources."""
        data: dict[str, Any] = whole(self)
        return {key: value for key, value in data.items() if key != "sources" or value}


class ResponsesOptions(SamplingOptions):
    """Principle-driven responses (paper app. D.2: T 0.5, top-p 0.9, 256 tokens)."""

    temperature: Temperature = option(0.5, "0 is greedy")
    top_p: Probability = option(0.9, "nucleus sampling mass")
    max_tokens: Positive = option(256, "most new tokens of a reply")
    thought_tokens: Positive = option(96, "most new tokens of an internal thought")
    attempts: Annotated[int, Field(ge=1, le=16)] = option(2, "how often an instruction may be sampled")
    min_words: Positive = option(5, "fewest words of a reply")
    logit_bias: dict[str, float] = option({}, 'added to the first token of a string, such as {"Sorry": -100}')


class ElaborationsOptions(SamplingOptions):
    """Elaborated responses of the engraved model under the verbose style (paper: T 0.3, top-p 0.7, 512 tokens)."""

    temperature: Temperature = option(0.3, "0 is greedy")
    top_p: Probability = option(0.7, "nucleus sampling mass")
    max_tokens: Positive = option(512, "most new tokens of an elaboration")
    min_words: Positive = option(20, "fewest words of an elaboration that was cut at its length limit")
    max_list_items: Positive = option(12, "a longer list is cut there (the original cuts at item 13)")
    ngram_penalties: tuple[float, float, float, float] = option(
        (0.0, 0.0, 1.0, 2.0), "frequency penalties for 1- to 4-grams of the generated part (the original's 0, 0, 1, 2)"
    )


class TrainingOptions(Section):
    """Fine-tuning, named as Hugging Face names it (paper app. D.2)."""

    method: Literal["lora", "qlora", "full"] = option(
        "lora", "lora; qlora (4-bit base, CUDA only); full (all weights: take a learning_rate near 2e-5)"
    )
    lora_r: Annotated[int, Field(ge=1, le=512)] = option(16, "LoRA rank")
    lora_alpha: Annotated[float, Field(gt=0)] = option(16, "LoRA scale numerator")
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = option(0.05, "dropout before the adapter")
    target_modules: tuple[str, ...] = option(
        ("q_proj", "k_proj", "v_proj", "o_proj"), "projections that get an adapter"
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = option(4e-4, "peak learning rate")
    lr_scheduler_type: Literal["linear", "cosine", "constant_with_warmup"] = option(
        "linear", "how the learning rate falls after the warm-up"
    )
    warmup_steps: Count = option(10, "steps of linear warm-up before the learning rate falls")
    optim: str = option("adamw_torch", "optimizer, by its name in transformers")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = option(0.0, "weight decay of the optimizer")
    max_grad_norm: Annotated[float, Field(gt=0)] = option(1.0, "a longer gradient is cut to this length")
    num_train_epochs: Annotated[float, Field(gt=0, le=100)] = option(1.0, "passes over the rows")
    per_device_train_batch_size: Positive = option(8, "rows of one optimizer step on one device")
    gradient_accumulation_steps: Positive = option(1, "forward passes of one optimizer step")
    gradient_checkpointing: bool = option(
        False, "compute activations twice, and keep few: a third slower, in less memory", affects_data=False
    )
    padding_free: bool = option(
        True, "lay the rows of a batch end to end, each seeing only itself; false pads them to one length"
    )
    packing: bool = option(
        False, "fill packs of max_length tokens with whole rows, each seeing only itself: batch sizes count packs then"
    )
    train_sampling_strategy: Literal["random", "group_by_length", "sequential"] = option(
        "random", "order of the rows; group_by_length batches rows of like length, which spares padding"
    )
    max_length: Positive = option(512, "a longer row is cut at its end; a row with nothing left to learn is a fault")
    validation_rows: Count = option(16, "rows held out to measure the loss")
    identity_copies: Count = option(1, "times each identity pair is added")
    keep_thoughts: bool = option(
        False, "learn the thought and the response, thought first in <think> tags; false prunes thoughts away"
    )
    save_steps: Count = option(50, "steps from one checkpoint to the next; 0 writes none", affects_data=False)
    save_total_limit: Positive = option(2, "checkpoints kept; the last training step needs none", affects_data=False)
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = option(
        (), "trackers that get every step's loss: tensorboard, wandb, mlflow, trackio", affects_data=False
    )

    @model_validator(mode="before")
    @classmethod
    def _one_tracker(cls, value: Any) -> Any:
        """`report_to: wandb` is short for `report_to: [wandb]`, and `none` for none, as transformers has it."""
        if isinstance(value, dict) and isinstance(value.get("report_to"), str):
            named = value["report_to"]
            return value | {"report_to": () if named == "none" else (named,)}
        return value


class DecontaminateOptions(Section):
    """Rows that overlap a benchmark are found before training, and dropped: what it was trained on proves nothing."""

    enabled: bool = option(
        True, "look for overlaps with this package's questions, TruthfulQA and HHH where found, and `data`"
    )
    drop: bool = option(True, "false only counts and lists them: the figures of those benchmarks are worth less then")
    data: tuple[str, ...] = option((), "more benchmarks: files or directories of .json, .jsonl, .csv or .parquet")
    ngram: Annotated[int, Field(ge=5)] = option(13, "words in a row that a row shares with a benchmark's text")
    rouge_l: Probability = option(0.7, "highest ROUGE-L F-measure allowed with a benchmark's question")


class CloneOptions(TrainingOptions):
    """Fine-tuning of the base model on elaborations."""

    max_length: Positive = option(768, "a longer row is cut at its end; a row with nothing left to learn is a fault")


class LaunchOptions(Section):
    """How a training is spread over processes. It says where the work is done, not what is learnt of which rows."""

    processes: Count = option(
        0, "training processes on this machine; 0 is one a visible GPU, or one on a CPU", affects_data=False
    )
    strategy: Literal["ddp", "fsdp2", "zero3"] = option(
        "ddp",
        "ddp (the model whole on every GPU), fsdp2 or zero3 (cut over the GPUs; zero3 needs deepspeed)",
        affects_data=False,
    )
    config_file: str = option("", "an accelerate config (YAML) in place of the strategy's own", affects_data=False)


class EvaluateOptions(SamplingOptions):
    """Side-by-side answers on held-out instructions (paper: T 0.7)."""

    temperature: Temperature = option(0.7, "0 is greedy")
    top_p: Probability = option(0.95, "nucleus sampling mass")
    max_tokens: Positive = option(256, "most new tokens of an answer")
    held_out: Count = option(40, "accepted instructions kept out of all training")
    tasks: tuple[str, ...] = option((), "tasks of `selfalign eval` that every stage's model is measured on, in pairs")
    limit: Count = option(0, "most questions of a task (of each subset); 0 takes all")


class GateOptions(SamplingOptions):
    """What a trained model must show on rows held out of its training, before anything is made from it."""

    temperature: Temperature = option(0.7, "0 is greedy")
    top_p: Probability = option(0.95, "nucleus sampling mass")
    max_tokens: Positive = option(
        512, "most new tokens of an answer, which counts as not stopped there: no fewer than elaborations.max_tokens"
    )
    rows: Count = option(16, "held-out rows that are answered; 0 turns the gate off")
    samples: Count = option(5, "answers kept to be read")
    # The embedded model: 37 of 40 answers ended once engraved, 11 of 40 before. Of 16 answers a model at 0.92 ends half
    # practically always, one at 0.27 once in 27 times.
    min_stop_rate: Share = option(0.5, "lowest share of answers that the model ends itself")
    # None of 160 answers of the demo leaked; of 8 rows one may, since a quotation can be innocent.
    max_leak_rate: Share = option(0.125, "highest share of answers that show text of the constitution")
    max_loss_ratio: Annotated[float, Field(gt=0)] = option(
        1.0, "highest held-out loss after training, over that before: above 1 it made the model worse at its own rows"
    )
    on_failure: Literal["stop", "continue"] = option(
        "stop", "stop: the run ends with status 1; continue: the model is marked and the run goes on (--keep-going)"
    )


class RoundsOptions(Section):
    """Rounds of responses and engrave, each under the model of the one before. `rounds: 2` is short for `count: 2`."""

    # Step-On-Feet Tuning, arXiv 2402.07610: late rounds degrade. A round that is worse than the one before it, by any
    # of these, is the last; the one before it is kept.
    count: Annotated[int, Field(ge=1, le=16)] = option(1, "most rounds")
    max_loss_ratio: Annotated[float, Field(gt=0)] = option(
        1.02, "highest loss on round 1's validation rows, over that of the round before"
    )
    min_yield_ratio: Share = option(0.7, "lowest share of instructions with an accepted response, likewise")
    min_words_ratio: Share = option(0.6, "lowest mean length of responses, likewise; more than its inverse is too long")
    min_variety_ratio: Share = option(0.8, "lowest share of distinct word pairs in equally many words, likewise")

    @model_validator(mode="before")
    @classmethod
    def _counted_by_one_number(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value


class PriceOptions(Section):
    """What a run is charged, to tell its cost in money; all 0 tells tokens and seconds alone."""

    prompt: Price = option(0.0, "price of a million prompt tokens, shared prefixes included", affects_data=False)
    completion: Price = option(0.0, "price of a million new tokens", affects_data=False)
    hour: Price = option(0.0, "price of an hour of the machine", affects_data=False)
    currency: str = option("USD", "what the prices are in", affects_data=False)

    def charge(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> float | None:
        """What that costs, in `currency`; None where no price is given. A shared prefix counts once a request."""
        if not (self.prompt or self.completion or self.hour):
            return None
        tokens = self.prompt * prompt_tokens + self.completion * completion_tokens
        return tokens / 1_000_000 + self.hour * seconds / 3600


class AbortOptions(Section):
    """When a stage's yield is hopeless."""

    after: Positive = option(200, "judged candidates before the yield is looked at", affects_data=False)
    min_yield: Annotated[float, Field(ge=0, le=1)] = option(0.05, "lowest accepted share", affects_data=False)


class Recipe(Section):
    """A whole run."""

    base_model: str = option("smollm2-135m", "Hub id, model directory, GGUF file, or smollm2-135m (embedded default)")
    constitution: str = option("dromedary", "a built-in constitution or the path of a YAML file")
    identity_name: str = option("", "the assistant's name; empty keeps the constitution's")
    seed: Seed = option(0, "changes every sample of the run")
    chunk_size: Positive = option(64, "jobs driven together: the unit of saving and of resuming")
    engine: EngineOptions = option(EngineOptions(), "what generates text")
    topics: TopicsOptions = option(TopicsOptions(), "stage topics")
    instructions: InstructionsOptions = option(InstructionsOptions(), "stage instructions")
    responses: ResponsesOptions = option(ResponsesOptions(), "stage responses")
    decontaminate: DecontaminateOptions = option(DecontaminateOptions(), "before stages engrave and clone")
    engrave: TrainingOptions = option(TrainingOptions(), "stage engrave")
    elaborations: ElaborationsOptions = option(ElaborationsOptions(), "stage elaborations")
    clone: CloneOptions = option(CloneOptions(), "stage clone")
    evaluate: EvaluateOptions = option(EvaluateOptions(), "stage evaluate")
    launch: LaunchOptions = option(LaunchOptions(), "processes of a training", affects_data=False)
    gate: GateOptions = option(GateOptions(), "after stages engrave and clone", affects_data=False)
    rounds: RoundsOptions = option(RoundsOptions(), "how often responses and engrave are repeated")
    abort: AbortOptions = option(AbortOptions(), "early abort of a stage", affects_data=False)
    price: PriceOptions = option(PriceOptions(), "what tokens and time are charged", affects_data=False)


class UniqueKeyLoader(yaml.SafeLoader):
    """Takes no key twice: of two sections of one name PyYAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML makes it."""
        known: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in known:
                raise ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            known.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `a.b=c` overrides. All faults are told at once: path, value and what is allowed."""
    if not path.is_file():
        raise UserError(f"no recipe at {path}", "selfalign run recipes/demo.yaml")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader) or {}
    except (yaml.YAMLError, ValueError) as fault:  # ValueError: not UTF-8, or a date such as 2024-99-99
        said = " ".join(str(fault).replace('in "<unicode string>", ', "in ").split())
        raise UserError(f"{path} is not YAML: {said}", f"mend {path}") from fault
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold a mapping of options, not {type(data).__name__}", f"mend {path}")
    for override in overrides or []:
        apply_override(data, override)
    return validate_recipe(data, str(path), f"mend {path}{' or the --set options' * bool(overrides)}")


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set `a.b=c` in nested mappings; the value is read as YAML."""
    name, separator, value = override.partition("=")
    if not separator or not name:
        raise UserError(
            f"--set {override!r} is not of the form a.b=c", "selfalign run RECIPE --set responses.attempts=3"
        )
    *parents, last = name.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise UserError(f"--set {override!r}: {parent} is not a section", "selfalign run --help")
    try:
        data[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as fault:
        raise UserError(f"--set {override!r}: the value is not YAML", "put it in quotes") from fault


def validate_recipe(data: dict[str, Any], source: str, remedy: str = "mend the recipe") -> Recipe:
    """Raises a UserError that lists every fault, and what mends it."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as fault:
        lines = [f"  {describe_fault(error)}" for error in fault.errors()]
        count = f"{len(lines)} fault{'s' * (len(lines) != 1)}"
        raise UserError(
            f"{source}: {count}\n" + "\n".join(lines), f"{remedy} and run the same command again"
        ) from fault


def describe_fault(error: Any) -> str:
    """`path: value V: what is allowed`, for one pydantic error."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key; known here: {', '.join(known_keys(error['loc'][:-1]))}"
    return f"{path}: {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The option names of the section at `path`."""
    section: type[BaseModel] = Recipe
    for name in (part for part in path if isinstance(part, str)):
        annotation: Any = section.model_fields[name].annotation
        annotation = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)


def type_name(annotation: Any) -> str:
    """A short name of a field's type, for the generated documentation."""
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation))
    return getattr(annotation, "__name__", str(annotation))


def document(section: type[BaseModel] = Recipe, indent: str = "") -> str:
    """A commented YAML template of every option, generated from the fields."""
    lines = []
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            lines += [f"{indent}{name}:  # {(info.annotation.__doc__ or '').strip()}"]
            lines += [document(info.annotation, indent + "  ")]
        else:
            default = info.default
            value = list(default) if isinstance(default, tuple) else default
            text = yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()
            lines += [f"{indent}{name}: {text}  # {type_name(info.annotation)}: {info.description}"]
            lines += [f"{indent}#   {row}" for row in item_options(info.annotation)]
    return "\n".join(lines)


def item_options(annotation: Any) -> list[str]:
    """What an item of a list of sections may say, one option a line."""
    part = next(iter(get_args(annotation)), None)
    fields = part.model_fields if isinstance(part, type) and issubclass(part, BaseModel) else {}
    return [f"{name} ({type_name(info.annotation)}): {info.description}" for name, info in fields.items()]
