"""A recipe's training options as the settings of PEFT and TRL."""

from __future__ import annotations

from typing import Any

from selfalign.recipe import TrainingOptions


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
