"""Rows -> LoRA adapter, with TRL's SFTTrainer on PEFT (paper app. D.2: only the response is learnt).

The rows are tokenized and labelled before the trainer sees them, so that no template, truncation or mask of its own
comes in between: `skip_prepare_dataset` hands `input_ids` and `labels` to its collator as they are.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.constitution.chat_format import ChatFormat, Row
from selfalign.errors import RunFailed, UserError
from selfalign.recipe import TrainingOptions
from selfalign.training.artifact import save_adapter
from selfalign.training.rows import Conversation, labelled_tokens, show_masked, training_rows

if TYPE_CHECKING:
    import torch

OnStep = Callable[[int, int, float], None]  # (step, steps in all, loss of that step)


class TrainingResult(NamedTuple):
    """What a training did. Losses are mean nats a labelled token; `losses` holds one per optimizer step."""

    steps: int
    epochs: float
    train_loss: float
    validation_loss_before: float | None
    validation_loss: float | None
    rows: int
    labelled_tokens: int
    losses: list[float]
    seconds: float


class TokenizedRows(NamedTuple):
    """Rows to learn from and rows to measure the loss on."""

    train: list[Row]
    validation: list[Row]


def train_adapter(
    base_model: Path | str,
    rows: Sequence[Conversation],
    validation: Sequence[Conversation],
    options: TrainingOptions,
    chat_format: ChatFormat,
    output: Path,
    *,
    seed: int,
    dtype: str = "auto",
    on_step: OnStep | None = None,
    log: Callable[[str], None] = print,
) -> TrainingResult:
    """Train a LoRA adapter of `base_model` (a local model directory) on `rows` and write it to `output`.

    The same call gives the same adapter, byte for byte, on the same machine. An `output` that exists is replaced, and
    only when the new one is complete.

    Raises UserError for rows that teach nothing and for target modules that the model lacks, RunFailed for a loss that
    is not finite.
    """
    from transformers import AutoTokenizer

    start = time.monotonic()
    base = local_directory(base_model)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenized = tokenize(tokenizer, chat_format, rows, validation, options.max_length)
    log(f"first row (⟦ ⟧ is read, not learnt): {show_masked(tokenizer, tokenized.train[0])}")
    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        model = load_base(base, compute_dtype(dtype))
        check_target_modules(model, options.target_modules)
        trainer = build_trainer(model, tokenizer, tokenized, options, scratch, seed, on_step)
        result = fit(trainer, tokenized, seed, start, options, log)
        save_adapter(trainer.model, tokenizer, chat_format, output, card_facts(base, options, seed, result))
    return result


def local_directory(base_model: Path | str) -> str:
    """The absolute path of a model directory; anything else is a UserError."""
    path = Path(base_model).expanduser().resolve()
    if not (path / "config.json").is_file():
        raise UserError(f"no model directory at {path} (it has no config.json)", "selfalign models")
    return str(path)


def tokenize(
    tokenizer: Any,
    chat_format: ChatFormat,
    rows: Sequence[Conversation],
    validation: Sequence[Conversation],
    max_length: int,
) -> TokenizedRows:
    """Both sets as token ids and labels; nothing to train on is a UserError."""
    if not rows:
        raise UserError("there are no rows to train on", "selfalign status RUN", exit_code=1)
    train = training_rows(tokenizer, chat_format, rows, max_length)
    return TokenizedRows(train, training_rows(tokenizer, chat_format, validation, max_length))


def compute_dtype(dtype: str) -> torch.dtype:
    """The dtype of the frozen base; the adapter's own weights are always float32.

    `auto` is bfloat16 on a GPU that computes in it, and float32 on a CPU. There bfloat16 took 0.6 to 0.8 of the time
    and learnt less: after 8 steps the validation loss had fallen by 0.22 to 0.23 against 0.26 to 0.27 (SmolLM2-135M, 3
    seeds, random words, an EPYC with avx512_bf16). What a GPU does was not measured.
    """
    import torch

    if dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"dtype {dtype!r} is not one of auto, float32, bfloat16")
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def load_base(base: str, dtype: torch.dtype) -> Any:
    """The base model in `dtype`. Several visible GPUs without a launcher are a UserError: SFTTrainer refuses them."""
    import torch
    from transformers import AutoModelForCausalLM

    if torch.cuda.device_count() > 1 and not torch.distributed.is_torchelastic_launched():
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible to one process",
            "CUDA_VISIBLE_DEVICES=0 selfalign run ...",
        )
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)


def check_target_modules(model: Any, wanted: Sequence[str]) -> None:
    """Each of `wanted` must name a linear layer: PEFT itself faults only where none at all is found."""
    import torch

    linear = sorted(
        {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    )
    missing = [name for name in wanted if name not in linear or name == "lm_head"]
    if missing:
        there = ", ".join(name for name in linear if name != "lm_head")
        raise UserError(
            f"target_modules: {', '.join(missing)} cannot get an adapter in {type(model).__name__}; there are {there}",
            "selfalign run RECIPE --set 'engrave.target_modules=[...]'",
        )


def build_trainer(
    model: Any,
    tokenizer: Any,
    tokenized: TokenizedRows,
    options: TrainingOptions,
    scratch: str,
    seed: int,
    on_step: OnStep | None,
) -> Any:
    """An SFTTrainer over the tokenized rows that reports to `on_step` and to nobody else."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from selfalign.training.trainer import quiet_trainer, step_callback

    def dataset(rows: list[Row]) -> Dataset:
        return Dataset.from_list([row._asdict() for row in rows])

    trainer = quiet_trainer()(
        model=model,
        args=trainer_settings(options, scratch, seed, in_bfloat16=model.dtype.itemsize == 2),
        train_dataset=dataset(tokenized.train),
        eval_dataset=dataset(tokenized.validation) if tokenized.validation else None,
        processing_class=tokenizer,
        peft_config=lora_settings(options),
        callbacks=[step_callback(on_step)],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every step where disable_tqdm is set
    return trainer


def lora_settings(options: TrainingOptions) -> Any:
    """The PEFT settings. `lora_alpha` stays whole where it is: vLLM and llama.cpp read an integer more gladly."""
    from peft import LoraConfig

    alpha: Any = options.lora_alpha
    return LoraConfig(
        r=options.lora_r,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        lora_dropout=options.lora_dropout,
        target_modules=list(options.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def trainer_settings(options: TrainingOptions, scratch: str, seed: int, in_bfloat16: bool) -> Any:
    """TRL's settings; what is named here differs from a default or must not drift with it."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    on_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=scratch,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        num_train_epochs=options.num_train_epochs,
        per_device_train_batch_size=options.per_device_train_batch_size,
        per_device_eval_batch_size=options.per_device_train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup_steps,
        optim="adamw_torch",
        weight_decay=0.0,
        train_sampling_strategy="group_by_length",
        seed=seed,
        bf16=on_gpu and in_bfloat16,  # TRL's default is True
        fp16=False,
        activation_checkpointing=False,  # the new name of gradient_checkpointing, which TRL turns on
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # its default hides the very losses that must stop the training
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
        use_cpu=not on_gpu,
        dataloader_num_workers=0,
    )


def fit(
    trainer: Any,
    tokenized: TokenizedRows,
    seed: int,
    start: float,
    options: TrainingOptions,
    log: Callable[[str], None],
) -> TrainingResult:
    """Train, measuring the validation loss before and after."""
    from transformers import set_seed

    before = validation_loss(trainer, tokenized.validation)
    set_seed(seed)  # the measurement above drew random numbers; the order of the rows must not depend on it
    output = trainer.train()
    if options.warmup_steps >= output.global_step:
        log(f"the warm-up ({options.warmup_steps} steps) took all {output.global_step} steps: lower warmup_steps")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return TrainingResult(
        steps=output.global_step,
        epochs=float(trainer.state.epoch or 0.0),
        train_loss=float(output.training_loss),
        validation_loss_before=before,
        validation_loss=validation_loss(trainer, tokenized.validation),
        rows=len(tokenized.train),
        labelled_tokens=labelled_tokens(tokenized.train),
        losses=losses,
        seconds=time.monotonic() - start,
    )


def validation_loss(trainer: Any, rows: list[Row]) -> float | None:
    """The mean loss over `rows`, or None where there are none. RunFailed where it is not finite."""
    if not rows:
        return None
    loss = float(trainer.evaluate()["eval_loss"])
    if not math.isfinite(loss):
        raise RunFailed(f"the validation loss is {loss} at step {trainer.state.global_step}", "lower learning_rate")
    return loss


def card_facts(base: str, options: TrainingOptions, seed: int, result: TrainingResult) -> dict[str, Any]:
    """What the card tells: base model, settings, results."""
    return {
        "base_model": base,
        "settings": {**options.model_dump(mode="json"), "seed": seed},
        "results": {name: value for name, value in result._asdict().items() if name != "losses" and value is not None},
    }


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers (`Loading weights`), and not its warning about a name that it uses itself."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # its functions are not typed
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
