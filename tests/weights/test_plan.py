"""The planner: a layout for every number of GPUs, its figures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfalign.cli.main import main
from selfalign.errors import UserError
from selfalign.weights.checkpoint import Checkpoint
from selfalign.weights.pad import pad_model
from selfalign.weights.padding import divides, padded_widths, runs_in_vllm
from selfalign.weights.plan import Request, choose_layout
from selfalign.weights.shapes import read_config, shape_of
from selfalign.weights.sizes import GIB, count_parameters, load_of, unpadded
from tests.support.tiny import tiny_model_dir
from tests.weights.families import random_model

MODELS: dict[str, dict[str, Any]] = {
    "small": {  # the embedded default's sizes
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "7b": {  # Qwen2.5-7B's
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 131072,
    },
    "70b": {  # Llama 3.1 70B's
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Shape and counts, from nothing but a config.json."""
    found = {}
    for name, config in MODELS.items():
        path = tmp_path_factory.mktemp(name)
        (path / "config.json").write_text(json.dumps(config))
        loaded = read_config(str(path))
        found[name] = (shape_of(loaded), count_parameters(loaded))
    return found


def request(gpus: int, memory: float = 0, copies: int = 0) -> Request:
    return Request(gpus, memory, context=8192, bytes_each=2, copies=copies)


@pytest.mark.parametrize(("name", "memory"), [("small", 0), ("small", 16), ("7b", 24), ("70b", 80)])
def test_every_number_of_gpus_has_a_layout_that_fits_or_a_reason(
    models: dict[str, tuple[Any, Any]], name: str, memory: float
) -> None:
    shape, counts = models[name]
    for gpus in range(1, 65):
        try:
            layout = choose_layout(shape, counts, request(gpus, memory))
        except UserError as refused:
            assert name == "70b" and gpus < 3  # 141 GB of weights
            assert "71 billion weights" in refused.message or "70.6 billion weights" in refused.message
            continue
        assert layout.tensor * layout.pipeline * layout.data <= gpus
        assert gpus - layout.gpus <= gpus // 2
        assert layout.pipeline <= shape.layers
        assert runs_in_vllm(layout.widths, layout.tensor)
        assert not layout.padded or divides(layout.widths, layout.tensor)
        held = layout.load.weights + 8192 * layout.load.kv_per_token
        assert not memory or held / GIB + 1 <= 0.9 * memory


def test_parameters_are_counted_without_weights(models: dict[str, tuple[Any, Any]]) -> None:
    assert models["small"][1].total == 134_515_008  # as its card says
    assert models["7b"][1].total == 7_615_616_512
    assert models["70b"][1].total == 70_553_706_496


def test_copies_come_before_splitting_where_one_fits(models: dict[str, tuple[Any, Any]]) -> None:
    layout = choose_layout(*models["small"], request(6, 24))
    assert (layout.tensor, layout.pipeline, layout.data, layout.padded) == (1, 1, 6, False)


def test_one_copy_is_split_over_all_and_padded_where_memory_is_unknown(models: dict[str, tuple[Any, Any]]) -> None:
    layout = choose_layout(*models["small"], request(2))
    assert (layout.tensor, layout.pipeline, layout.data, layout.padded) == (2, 1, 1, True)
    assert layout.widths == (12, 4, 1536)
    assert layout == choose_layout(*models["small"], request(2, 24, copies=1))._replace(room=0, speed=layout.speed)


def test_a_size_that_divides_is_taken_unpadded(models: dict[str, tuple[Any, Any]]) -> None:
    layout = choose_layout(*models["70b"], request(8, 24))
    assert (layout.tensor, layout.pipeline, layout.data, layout.padded) == (8, 1, 1, False)


def test_tensor_parallelism_stays_within_a_node_or_fills_nodes(models: dict[str, tuple[Any, Any]]) -> None:
    for gpus in range(9, 65):
        layout = choose_layout(*models["70b"], request(gpus, 40))
        assert layout.tensor <= 8 or layout.tensor % 8 == 0


def test_the_cost_of_padding_is_what_the_padded_checkpoint_grows_by(tmp_path: Path) -> None:
    original = random_model("qwen3", tmp_path / "original")
    config = read_config(str(original))
    shape, counts = shape_of(config), count_parameters(config)
    pad_model(str(original), 4, tmp_path / "padded", prove=False)
    counted = []
    for path in (original, tmp_path / "padded"):
        with Checkpoint(path) as checkpoint:
            matrices = (checkpoint.tensor(name) for name in checkpoint.names)
            counted.append(sum(tensor.numel() for tensor in matrices if tensor.dim() == 2))
    widths = padded_widths(unpadded(shape), 4)
    assert widths is not None
    load = load_of(shape, counts, widths, 4, 1, 2, 64)
    assert load.memory_cost * counts.total == pytest.approx(counted[1] - counted[0])


def test_what_cannot_fit_is_refused_with_the_figures(models: dict[str, tuple[Any, Any]]) -> None:
    with pytest.raises(UserError) as caught:
        choose_layout(*models["70b"], request(2, 24))
    assert caught.value.exit_code == 1
    assert "do not fit on 2 GPUs of 24 GiB" in caught.value.message
    assert "weights 65.71" in caught.value.message  # 131.4 GiB in two
    assert "21.60 may be used" in caught.value.message
    assert "--gpus 8 would do" in caught.value.hint


def test_a_model_that_cannot_be_padded_is_split_by_what_divides(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODELS["small"] | {"model_type": "olmo2"}))
    config = read_config(str(tmp_path))
    layout = choose_layout(shape_of(config), count_parameters(config), request(2))
    assert (layout.tensor, layout.pipeline, layout.padded) == (1, 2, False)


def test_the_command_prints_json_and_the_next_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "small"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(MODELS["small"]))
    assert main(["plan", str(model), "--gpus", "2", "--copies", "1", "--memory", "24", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan | {"tensor": 2, "pipeline": 1, "data": 1, "padded": True, "idle": 0} == plan
    assert (plan["heads"], plan["kv_heads"]) == ([9, 12], [3, 4])
    assert plan["recipe"]["base_model"] == "small-tp2"
    assert plan["padding_memory_percent"] == pytest.approx(6.58)
    assert plan["commands"] == [
        f"selfalign weights pad {model} --tensor-parallel 2 --to small-tp2",
        "vllm serve small-tp2 --tensor-parallel-size 2",
    ]
    assert main(["plan", str(model / "config.json"), "--gpus", "6", "--memory", "24"]) == 0
    text = capsys.readouterr().out
    assert "6 GPUs: tensor 1 x pipeline 1 x data 6" in text
    assert "--data-parallel-size 6" in text
    assert "replicas: 6" in text


def test_an_adapter_is_merged_before_it_is_padded_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_model_dir(tmp_path / "base")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "mine", "--gpus", "3", "--copies", "1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["commands"] == [
        "selfalign weights merge mine --to mine-merged",
        "selfalign weights pad mine-merged --tensor-parallel 3 --to mine-merged-tp3",
        "vllm serve mine-merged-tp3 --tensor-parallel-size 3",
    ]
    assert plan["recipe"]["base_model"] == "mine-merged-tp3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "0"], "--gpus must be a number above 0, is 0"),
        (["--gpus", "2", "--copies", "3"], "3 copies on 2 GPUs"),
        (["--gpus", "2", "--memory", "-1"], "--memory must be a number above 0"),
        (["--gpus", "2", "--memory", "inf"], "--memory must be a number above 0, is inf"),
    ],
)
def test_numbers_that_are_none_are_told(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_is_not_padded_is_planned_without_and_the_plan_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = MODELS["small"] | {"model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 64}
    for config, reason in (
        (experts, "model type qwen3_moe is not among those whose padding is tested"),
        (MODELS["small"] | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "its weights are quantized"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert main(["plan", str(tmp_path), "--gpus", "2", "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert not plan["padded"]
        assert any("left out" in line and reason in line for line in plan["why"])
    (tmp_path / "config.json").write_text(json.dumps(MODELS["small"]))
    assert main(["plan", str(tmp_path), "--gpus", "2"]) == 0
    assert "left out" not in capsys.readouterr().out


def test_a_run_whose_model_is_whole_is_planned_without_a_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model_dir(tmp_path / "mine" / "models" / "final")
    (tmp_path / "mine" / "run.json").write_text("{}")
    assert main(["plan", "mine", "--gpus", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commands"] == [
        "selfalign weights pad mine --tensor-parallel 3 --to mine-tp3",
        "vllm serve mine-tp3 --tensor-parallel-size 3",
    ]


def test_a_directory_without_a_config_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path), "--gpus", "2"]) == 2
    assert "no config.json" in capsys.readouterr().err
