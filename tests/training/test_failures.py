"""What a training says when it cannot go on, or not as it was asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from selfalign.errors import RunFailed, UserError
from selfalign.recipe import TrainingOptions, validate_recipe
from selfalign.training.base_model import check_method
from selfalign.training.failures import memory_faults, memory_hint
from selfalign.training.settings import check_optimizer
from selfalign.training.trackers import check_trackers
from tests.support.tiny import EOS, tiny_model, tiny_model_dir, tiny_tokenizer
from tests.training.conversations import FORMAT, changed, conversations, train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("base"))


def broken_for(token: int, path: Path) -> Path:
    """A base whose embedding of one token is not a number: only a row with that token fails."""
    model = tiny_model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.detach().clone())
    model.model.embed_tokens.weight.data[token] = float("nan")
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_a_loss_that_is_not_finite_names_its_rows_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    base = broken_for(tiny_tokenizer()("~").input_ids[0], tmp_path / "base")
    bad = ("bad", [{"role": "user", "content": "~"}, {"role": "assistant", "content": "x"}])
    options = changed(per_device_train_batch_size=2, save_steps=1, train_sampling_strategy="sequential")
    with pytest.raises(RunFailed) as caught:
        train(base, tmp_path / "out", options, rows=[*conversations(5), bad], checkpoints=tmp_path / "saved")
    saved = tmp_path / "saved" / "not-finite-step-3-rank-0.jsonl"
    assert caught.value.message == (
        f"the training loss is nan at step 3 of 6; its rows are in {saved}; "
        f"the last good checkpoint is {tmp_path / 'saved' / 'checkpoint-2'}"
    )
    rows = [json.loads(line) for line in saved.read_text().splitlines()]
    assert [row["key"] for row in rows] == ["key4", "bad"]
    assert rows[1]["text"].endswith(f"~\n\n### Assistant\nx{EOS}") and len(rows[1]["labels"]) == len(
        rows[1]["input_ids"]
    )
    assert (tmp_path / "saved" / "checkpoint-2" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out").exists()


def test_memory_that_ran_out_says_what_to_lower() -> None:
    import torch

    no_memory = pytest.raises(UserError, match=r"out of memory in training: .*can't allocate memory")
    with no_memory as caught, memory_faults(TrainingOptions()):
        torch.empty(2**46)  # 256 TiB: the CPU's allocator itself says no
    assert caught.value.exit_code == 1
    assert caught.value.hint == (
        "lower in the recipe: per_device_train_batch_size 8 -> 4 with gradient_accumulation_steps 1 -> 2, "
        "or gradient_checkpointing false -> true, or max_length 512 -> 256"
    )
    assert "method full -> lora" in memory_hint(changed(method="full"))
    with pytest.raises(RuntimeError, match="shapes"), memory_faults(TrainingOptions()):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_qlora_without_a_gpu_says_so(base: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="qlora needs a CUDA GPU"):
        train(base, tmp_path / "out", changed(method="qlora"))
    check_method("lora")
    check_method("full")


def test_an_optimizer_that_is_not_there_is_named() -> None:
    check_optimizer("adamw_torch")
    with pytest.raises(UserError, match="optim: 'adam' is not one of adamw_torch"):
        check_optimizer("adam")
    if find_spec("bitsandbytes") is None:
        with pytest.raises(UserError, match="adamw_8bit needs bitsandbytes"):
            check_optimizer("adamw_8bit")


def test_pad_equal_to_eos_still_learns_the_eos(tmp_path: Path) -> None:
    """Masking every pad token would mask the end of every turn too: the model would never stop."""
    base = tiny_model_dir(tmp_path / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = EOS
    tokenizer.save_pretrained(base)
    for padding_free in (True, False):
        options = changed(padding_free=padding_free, lora_dropout=0.0)
        same = train(base, tmp_path / "same", options)
        other = train(tiny_model_dir(tmp_path / "other"), tmp_path / "out", options)
        assert same.labelled_tokens == 12 * 10  # "aaaa bbbb" and EOS
        assert same.losses == pytest.approx(other.losses, rel=1e-5)


def test_a_tokenizer_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.eos_token_id = model.config.pad_token_id = None
    model.resize_token_embeddings(200)
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="token id 256, and the base model's vocabulary has 200"):
        train(tmp_path / "base", tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("model.safetensors", None, "no file named model.safetensors"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "header"),
        ("config.json", b"{", "config file at"),
        ("config.json", b'{"model_type": "nope"}', "model type `nope`"),
        ("tokenizer.json", None, "tokenizer"),
    ],
)
def test_a_base_that_cannot_be_read_is_one_line(tmp_path: Path, file: str, content: bytes | None, reason: str) -> None:
    base = tiny_model_dir(tmp_path / "base")
    (base / file).unlink()
    if content:
        (base / file).write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        train(base, tmp_path / "out")
    assert caught.value.message.startswith(f"cannot load the base model {base}: ")
    assert len(caught.value.message.splitlines()) == 1


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign.training.trackers.find_spec", lambda name: None if name == "trackio" else object())
    with pytest.raises(UserError, match="report_to: trackio is not installed") as caught:
        check_trackers(["wandb", "trackio"])
    assert caught.value.hint == "pip install trackio"


def test_report_to_takes_one_word_or_a_list() -> None:
    def read(value: Any) -> tuple[str, ...]:
        return validate_recipe({"engrave": {"report_to": value}}, "recipe.yaml").engrave.report_to

    assert read("wandb") == ("wandb",) and read(["mlflow", "trackio"]) == ("mlflow", "trackio")
    assert read("none") == read([]) == ()
    with pytest.raises(UserError, match="report_to"):
        read("wandbb")


def test_tensorboard_gets_every_loss(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    result = train(base, tmp_path / "out", changed(report_to="tensorboard"), log_directory=tmp_path / "logs")
    events = accumulator.EventAccumulator(str(tmp_path / "logs" / "tensorboard" / "out"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(result.losses, rel=1e-6)


def test_a_whole_model_is_trained_and_saved(base: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    result = train(base, tmp_path / "out", changed(method="full", learning_rate=1e-3))
    assert result.losses[-1] < result.losses[0] - 0.1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "A model trained with selfalign" in (tmp_path / "out" / "README.md").read_text()
    chat = pipeline("text-generation", model=str(tmp_path / "out"))
    assert chat.tokenizer.chat_template == FORMAT.template
    assert chat.model.generation_config.eos_token_id == 256


def test_gradient_checkpointing_changes_memory_and_not_the_loss(base: Path, tmp_path: Path) -> None:
    plain = train(base, tmp_path / "plain", changed(num_train_epochs=1))
    kept = train(base, tmp_path / "kept", changed(num_train_epochs=1, gradient_checkpointing=True))
    assert kept.losses == pytest.approx(plain.losses, rel=1e-4)


def test_nothing_of_a_tracker_is_loaded_where_none_is_asked_for() -> None:
    code = "import sys, selfalign.training.train; assert not {'wandb', 'mlflow', 'tensorboard'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
