"""Rows -> LoRA adapter or whole model, with TRL's SFTTrainer (paper app. D.2: only the response is learnt).

The rows are tokenized and labelled before the trainer sees them, so that no template, truncation or mask of its own
comes in between: `skip_prepare_dataset` hands `input_ids` and `labels` to its collator as they are.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from selfalign.constitution.chat_format import ChatFormat
from selfalign.engines.embedded.memory import prepare_heap
from selfalign.errors import RunFailed, UserError
from selfalign.recipe import TrainingOptions
from selfalign.training.artifact import save_artifact
from selfalign.training.base_model import (
    check_method,
    check_target_modules,
    check_vocabulary,
    compute_dtype,
    load_base,
    load_tokenizer,
    local_directory,
    quiet_transformers,
)
from selfalign.training.build import TokenizedRows, build_trainer, describe_training
from selfalign.training.checkpoints import Checkpoints, step_of
from selfalign.training.distributed import forget_evaluation, is_sharded
from selfalign.training.failures import memory_faults
from selfalign.training.rows import Conversation, labelled_tokens, show_masked, training_rows
from selfalign.training.settings import check_optimizer
from selfalign.training.trackers import check_trackers, place_tensorboard

OnStep = Callable[[int, int, float], None]  # (step, steps in all, loss of that step)


class TrainingResult(NamedTuple):
    """What a training did. Losses are mean nats a labelled token; `losses` holds one per optimizer step.

    `labelled_tokens` and `tokens` (all of them) count one pass over the rows; `resumed_from` is the step of the
    checkpoint that this session went on from, `seconds` are this session's alone.
    """

    steps: int
    epochs: float
    train_loss: float
    validation_loss_before: float | None
    validation_loss: float | None
    rows: int
    labelled_tokens: int
    losses: list[float]
    seconds: float
    tokens: int = 0
    resumed_from: int = 0


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
    checkpoints: Path | None = None,
    log_directory: Path | None = None,
    tokenized: TokenizedRows | None = None,
) -> TrainingResult:
    """Train on `base_model` (a local model directory) by `options.method` and write the result to `output`.

    `lora` and `qlora` write an adapter, `full` a whole model. The same call gives the same adapter, byte for byte, on
    the same machine. An `output` that exists is replaced, and only when the new one is complete.

    With `checkpoints`, a directory, the training saves itself there every `save_steps`; a call that finds a whole
    checkpoint of the same training goes on from it, to the same result; at the end the directory is removed.
    `log_directory` takes TensorBoard's files (default: `logs` beside the output). `tokenized` holds both sets where
    another process tokenized them already; `rows` needs only its keys then.

    Raises UserError for rows that teach nothing, target modules that the model lacks, a method or tracker that cannot
    be had here, and memory that ran out; RunFailed for a loss that is not finite and a full disk.
    """
    start = time.monotonic()
    check_method(options.method)
    check_trackers(options.report_to)
    check_optimizer(options.optim)
    place_tensorboard(options.report_to, (log_directory or output.parent / "logs") / "tensorboard" / output.name)
    base = local_directory(base_model)
    products = compute_dtype(dtype)
    prepare_heap()  # a step's large tensors would be paged in anew each time
    tokenizer = load_tokenizer(base)
    tokenized = tokenized or tokenize(tokenizer, chat_format, rows, validation, options.max_length)
    log(f"first row (⟦ ⟧ is read, not learnt): {show_masked(tokenizer, tokenized.train[0])}")
    with quiet_transformers(), memory_faults(options), tempfile.TemporaryDirectory() as scratch:
        model = load_base(base, products, options.method)
        check_vocabulary(model, max(max(row.input_ids) for row in [*tokenized.train, *tokenized.validation]))
        if options.method != "full":
            check_target_modules(model, options.target_modules)
        saved = None
        if checkpoints and options.save_steps:
            description = describe_training(options, tokenized, base, seed, str(products))
            saved = Checkpoints(checkpoints, description, options.save_total_limit)
        trainer = build_trainer(
            model,
            tokenizer,
            tokenized,
            options,
            scratch,
            seed,
            on_step,
            checkpoints=saved,
            faults_in=checkpoints or output.parent,
            keys=[key for key, _ in rows],
            dtype=products,
            name=output.name,
        )
        result = fit(trainer, tokenized, seed, start, options, log)
        save_artifact(trainer, tokenizer, chat_format, output, card_facts(base, options, seed, result))
        if checkpoints and trainer.is_world_process_zero():
            Checkpoints(checkpoints, {}, keep=1).remove()
    return result


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


def fit(
    trainer: Any,
    tokenized: TokenizedRows,
    seed: int,
    start: float,
    options: TrainingOptions,
    log: Callable[[str], None],
) -> TrainingResult:
    """Train, from the newest checkpoint where there is one, measuring the validation loss before and after."""
    from transformers import set_seed

    before = None if is_sharded(trainer) else validation_loss(trainer, tokenized)
    forget_evaluation(trainer)
    set_seed(seed)  # the measurement above drew random numbers; dropout must not depend on it
    found = trainer.checkpoints.newest() if trainer.checkpoints else None
    if trainer.checkpoints and trainer.is_world_process_zero():
        trainer.checkpoints.clear_others()
    if found:
        log(f"goes on from {found}")
    output = trainer.train(resume_from_checkpoint=str(found) if found else None)
    if options.warmup_steps >= output.global_step:
        log(f"the warm-up ({options.warmup_steps} steps) took all {output.global_step} steps: lower warmup_steps")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return TrainingResult(
        steps=output.global_step,
        epochs=float(trainer.state.epoch or 0.0),
        train_loss=fmean(losses),  # the trainer's own figure leaves out the steps before a checkpoint
        validation_loss_before=before,
        validation_loss=validation_loss(trainer, tokenized),
        rows=len(tokenized.train),
        labelled_tokens=labelled_tokens(tokenized.train),
        losses=losses,
        seconds=time.monotonic() - start,
        tokens=sum(len(row.input_ids) for row in tokenized.train),
        resumed_from=step_of(found) if found else 0,
    )


def validation_loss(trainer: Any, tokenized: TokenizedRows) -> float | None:
    """Mean nats a labelled token of the validation rows, None without any. RunFailed where it is not finite.

    Summed here: `evaluate` gives the mean of the batches' means, which depends on how the rows fall into batches.
    """
    if not tokenized.validation:
        return None
    trainer.measured.clear()
    trainer.evaluate()
    total = trainer.accelerator.reduce(sum(part.total for part in trainer.measured), "sum")
    tokens = trainer.accelerator.reduce(sum(part.tokens for part in trainer.measured), "sum")
    loss = float(total / tokens)
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
