"""The stages that train: which rows are kept from it, how it goes, and on which processes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selfalign.recipe.section import Count, Positive, Probability, Section, option


class DecontaminateOptions(Section):
    """Rows that overlap a benchmark are found before training, and dropped: what it was trained on proves nothing."""

    enabled: bool = option(
        True, "look for overlaps with this package's questions, TruthfulQA and HHH where found, and `data`"
    )
    drop: bool = option(True, "false only counts and lists them: the figures of those benchmarks are worth less then")
    data: tuple[str, ...] = option((), "more benchmarks: files or directories of .json, .jsonl, .csv or .parquet")
    ngram: Annotated[int, Field(ge=5)] = option(13, "words in a row that a row shares with a benchmark's text")
    rouge_l: Probability = option(0.7, "highest ROUGE-L F-measure allowed with a benchmark's question")


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
