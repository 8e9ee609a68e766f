"""`selfalign release`: folders as the Hub expects them, with nothing of this machine in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import parquet

from selfalign.cli.main import main
from selfalign.recipe import GateOptions, SourceOptions, load_recipe
from selfalign.release.release import public_sources
from selfalign.training.gate import GateFigures, judge, mark, outcome
from tests.release.hub import Hub, hub_server
from tests.support.runs import files

ROOT = Path(__file__).parents[2]
TOKEN = "hf_" + "aB3dE6gH9j" * 4
KNOWN_BASE = ("--base-model", "org/tiny", "--base-license", "apache-2.0")
DATASET = {
    "README.md",
    "constitution.yaml",
    "recipe.yaml",
    "data/engrave/train.parquet",
    "data/engrave/validation.parquet",
    "data/clone/train.parquet",
    "data/clone/validation.parquet",
}
COMMON = {
    "README.md",
    "chat_template.jinja",
    "constitution.yaml",
    "generation_config.json",
    "recipe.yaml",
    "tokenizer.json",
    "tokenizer_config.json",
}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}
MERGED = {"config.json", "model.safetensors", *(f"adapter/{name}" for name in ADAPTER)}
HELLO = [{"role": "user", "content": "Hello!"}]


def release(run: Path, to: Path | str, *options: str) -> int:
    return main(["release", str(run), "--to", str(to), *KNOWN_BASE, *options])


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def front(card: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])
    return metadata


def text_of(prompt: Any) -> str:
    answer: str = prompt(HELLO, max_new_tokens=12, do_sample=False)[0]["generated_text"][-1]["content"]
    return answer


@pytest.fixture(scope="module")
def adapter(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("adapter") / "out"
    assert release(finished, output) == 0
    return output


@pytest.fixture(scope="module")
def merged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("merged") / "out"
    assert release(finished, output, "--merged") == 0
    return output


# ------------------------------------------------------------------------------------------------------------- folders


def test_an_adapter_is_released_with_exactly_these_files(adapter: Path) -> None:
    assert set(files(adapter / "model")) == COMMON | ADAPTER
    assert set(files(adapter / "dataset")) == DATASET


def test_a_merged_model_is_released_with_its_adapter_beside_it(merged: Path) -> None:
    assert set(files(merged / "model")) == COMMON | MERGED


def test_a_merge_that_changed_the_model_is_not_released(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selfalign.weights.adapter.Change.apply", lambda _, block, start: block + 0.3)
    assert release(finished, tmp_path / "out", "--merged") == 1
    assert "base + adapter and the merged model differ" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_file_holds_a_path_of_this_machine(adapter: Path, merged: Path, finished: Path, tiny_base: Path) -> None:
    private = [str(place).encode() for place in (finished, tiny_base, Path.home(), ROOT)]
    for name, content in (files(adapter) | files(merged)).items():
        assert not [path for path in private if path in content], name


def test_the_adapter_and_the_recipe_name_the_base_by_its_hub_id(adapter: Path) -> None:
    settings = json.loads((adapter / "model" / "adapter_config.json").read_text())
    recipe = load_recipe(adapter / "model" / "recipe.yaml")
    assert (settings["base_model_name_or_path"], recipe.base_model) == ("org/tiny", "org/tiny")
    assert recipe.constitution == "constitution.yaml"


def test_generation_ends_at_eos(adapter: Path) -> None:
    assert json.loads((adapter / "model" / "generation_config.json").read_text())["eos_token_id"] == 256


def test_the_attached_recipe_runs_under_the_attached_constitution(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(adapter / "model")
    assert main(["constitution", "check", "constitution.yaml"]) == 0
    assert main(["run", "recipe.yaml", "--dry-run", "--set", "base_model=smollm2-135m"]) == 0


def test_the_merged_model_answers_in_a_pipeline_as_the_run_does(
    merged: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import pipeline

    expected = text_of(pipeline("text-generation", model=str(finished / "models" / "final")))
    shutil.copytree(merged / "model", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    prompt = pipeline("text-generation", model="elsewhere")
    assert prompt.model.config.architectures == ["LlamaForCausalLM"]
    assert text_of(prompt) == expected


def test_the_adapter_answers_as_its_card_says_where_its_base_is_found(
    adapter: Path, finished: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import pipeline

    expected = text_of(pipeline("text-generation", model=str(finished / "models" / "final")))
    shutil.copytree(tiny_base, tmp_path / "org" / "tiny")  # stands where the Hub would be asked for `org/tiny`
    shutil.copytree(adapter / "model", tmp_path / "me" / "kind")
    monkeypatch.chdir(tmp_path)
    assert 'tokenizer="' in (adapter / "model" / "README.md").read_text()
    assert text_of(pipeline("text-generation", model="me/kind", tokenizer="me/kind")) == expected


def test_the_data_set_loads_by_config_with_its_columns(
    adapter: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import List, Value, load_dataset

    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    by_default = load_dataset(str(adapter / "dataset"), cache_dir=str(tmp_path))
    assert set(by_default) == {"train", "validation"} and "responses" in by_default["train"]["source"]
    for config, stage in (("engrave", "responses"), ("clone", "elaborations")):
        data = load_dataset(str(adapter / "dataset"), config, cache_dir=str(tmp_path))
        lines = (finished / "datasets" / config / "train.jsonl").read_text(encoding="utf-8").splitlines()
        assert data["train"]["key"][:] == [json.loads(line)["key"] for line in lines]
        assert data["validation"].features["principles"] == List(Value("int64"))
        assert {stage, "identity"} == set(data["train"]["source"])
        of_records = [row for row in data["train"] if row["source"] == stage]
        assert all(row["parents"] and row["seed"] for row in of_records)
        assert {row["model"] for row in of_records} == {"org/tiny" if stage == "responses" else "engraved"}
        assert all(list(message) == ["role", "content"] for row in of_records for message in row["messages"])


# --------------------------------------------------------------------------------------------------------------- cards


def test_the_model_card_tells_base_licence_counts_and_figures(adapter: Path, finished: Path) -> None:
    metadata = front(adapter / "model" / "README.md")
    assert (metadata["base_model"], metadata["license"]) == ("org/tiny", "apache-2.0")
    assert (metadata["base_model_relation"], metadata["library_name"]) == ("adapter", "peft")
    metrics = [metric["type"] for metric in metadata["model-index"][0]["results"][0]["metrics"]]
    assert metrics == ["stop_rate", "leak_rate"]
    text = (adapter / "model" / "README.md").read_text(encoding="utf-8")
    stages = json.loads((finished / "run.json").read_text())["stages"]
    for stage in ("topics", "instructions", "responses", "elaborations"):
        row = stages[stage]
        assert f"| {stage} | {row['accepted']} | {sum(row['rejected'].values())} |" in text
    assert "{{" not in text and "None" not in text


def test_the_data_set_card_tells_splits_rejections_and_principles(adapter: Path, finished: Path) -> None:
    text = (adapter / "dataset" / "README.md").read_text(encoding="utf-8")
    assert [config["config_name"] for config in front(adapter / "dataset" / "README.md")["configs"]] == [
        "engrave",
        "clone",
    ]
    rejected = json.loads((finished / "run.json").read_text())["stages"]["instructions"]["rejected"]
    assert rejected
    assert all(f"{name} {number}" in text for name, number in rejected.items())
    principles = yaml.safe_load((finished / "constitution.yaml").read_text())["principles"]
    assert all(f"{principle['number']}. {principle['name']}" in text for principle in principles)
    found = json.loads((finished / "run.json").read_text())["stages"]["clone"]["decontamination"]
    assert found["checked"] and not found["overlapping"]
    assert "the rows were searched for texts of benchmarks (open_questions, harmful," in text
    assert f"- clone: 0 of {found['checked']} records overlapped; 0 of 2 identity pairs overlapped.\n" in text
    assert "| org/tiny | apache-2.0 |" in text, "the generated rows have the licence of their model"
    assert "| identity rows | " in text and "| constitution `" in text


def test_a_result_of_the_run_s_model_is_on_the_card_and_one_of_another_is_not(finished: Path, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    row = {"value": 0.31, "n": 817, "interval": [0.28, 0.34], "chance": 0.22, "prompt_format": "qa"}
    for task, model in (("mine", str(run)), ("theirs", "some/other")):
        content = {"results": {task: row}, "model": model}
        (run / "evaluation" / f"{task}.json").write_text(json.dumps(content))
    assert release(run, tmp_path / "out") == 0
    text = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| mine | qa | 0.310 | 0.280 to 0.340 | 0.220 | 817 |" in text
    assert "theirs" not in text


def test_beside_a_benchmark_s_figure_the_card_says_how_many_identity_questions_overlap(
    finished: Path, tmp_path: Path
) -> None:
    run = copy_of(finished, tmp_path)
    manifest = json.loads((run / "run.json").read_text())
    overlap = {"question": "Who are you?", "benchmark": "quiz", "reason": "question: ROUGE-L 1.00", "value": 1.0}
    for stage in ("engrave", "clone"):
        manifest["stages"][stage]["decontamination"]["identity"]["overlapping"] = [overlap]
    (run / "run.json").write_text(json.dumps(manifest))
    content = {"results": {"quiz": {"value": 0.3}}, "model": str(run)}
    (run / "evaluation" / "quiz.json").write_text(json.dumps(content))
    assert release(run, tmp_path / "out") == 0
    text = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "Among the identity questions that humans wrote, 1 overlaps a benchmark" in text
    listed = (tmp_path / "out" / "dataset" / "README.md").read_text(encoding="utf-8")
    assert listed.count("- Who are you? (question: ROUGE-L 1.00)\n") == 1, "once, though both trainings learn it"


def test_a_licence_without_an_id_goes_by_name_and_link(finished: Path, tmp_path: Path) -> None:
    given = ("--base-license", "llama3.9-community=https://example.com/licence")
    assert release(finished, tmp_path / "out", *given) == 0
    metadata = front(tmp_path / "out" / "model" / "README.md")
    assert (metadata["license"], metadata["license_name"]) == ("other", "llama3.9-community")


def test_a_model_that_failed_its_gate_says_so_first(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished, tmp_path)
    figures = GateFigures(10, 4, 0, 2.0, 1.5, 12.0, 0.9)
    mark(run / "models" / "final", outcome(figures, judge(figures, GateOptions()), []))
    assert release(run, tmp_path / "out") == 0
    assert "failed its gate (ended 4 of 10 answers" in capsys.readouterr().err
    text = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert text.index("failed the gate") < text.index("## Use")
    assert "held-out loss 2.000 -> 1.500" in text
    assert not list((tmp_path / "out").rglob("gate.json")), "its samples name no one, but they are no part of a release"


def test_the_rows_are_those_of_the_kept_round(finished: Path, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    manifest = json.loads((run / "run.json").read_text())
    for name in ("responses", "engrave"):
        manifest["stages"][f"{name}-2"] = manifest["stages"][name] | {"accepted": 1}
    manifest["rounds"] = {"kept": 2}
    (run / "run.json").write_text(json.dumps(manifest))
    record = json.loads((run / "responses.jsonl").read_text().splitlines()[0]) | {"key": "of-round-2"}
    (run / "responses-2.jsonl").write_text(json.dumps(record) + "\n")
    (run / "datasets" / "engrave-2").mkdir()
    row = {"key": "of-round-2", "messages": record["messages"]}
    (run / "datasets" / "engrave-2" / "train.jsonl").write_text(json.dumps(row) + "\n")
    assert release(run, tmp_path / "out") == 0
    rows = parquet.read_table(tmp_path / "out" / "dataset" / "data" / "engrave" / "train.parquet").to_pylist()
    assert [(row["key"], row["source"]) for row in rows] == [("of-round-2", "responses")]
    text = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| responses-2 | 1 |" in text and "The model of `engrave-2` was kept" in text


def test_sources_on_this_machine_are_published_by_name_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    named = [str(tmp_path / "mine"), "~/notes/asked.txt", "org/kites"]
    shown = public_sources([SourceOptions(path=path, licence="x", cap=5) for path in named])
    assert [source.path for source in shown] == ["mine", "asked.txt", "org/kites"]
    assert {(source.licence, source.cap) for source in shown} == {("x", 5)}


def test_a_row_tells_the_source_and_licence_of_its_instruction(finished: Path, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path)
    lines = (run / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    given = [json.loads(line) | {"origin": "dolly.jsonl:12", "licence": "cc-by-sa-3.0"} for line in lines]
    (run / "instructions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    assert release(run, tmp_path / "out") == 0
    rows = parquet.read_table(tmp_path / "out" / "dataset" / "data" / "engrave" / "train.parquet").to_pylist()
    of_records = [row for row in rows if row["source"] == "responses"]
    assert {(row["origin"], row["licence"]) for row in of_records} == {("dolly.jsonl:12", "cc-by-sa-3.0")}
    text = (tmp_path / "out" / "dataset" / "README.md").read_text(encoding="utf-8")
    assert "| dolly.jsonl | cc-by-sa-3.0 | the recipe |" in text
    assert "The instructions with an `origin` are from other data sets" in text
    assert "No text is from a data set" not in text


# --------------------------------------------------------------------------------------------------- nothing by mistake


def test_a_dry_run_shows_every_file_and_writes_none(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(finished, tmp_path / "out", "--merged", "--dry-run") == 0
    shown = capsys.readouterr().out
    wanted = [*(f"model/{name}" for name in COMMON | MERGED), *(f"dataset/{name}" for name in DATASET)]
    assert sorted(line.split()[0] for line in shown.splitlines()[:-2]) == sorted(wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "secret"),
    [
        ("datasets/engrave/train.jsonl", "the variable's own value"),
        ("constitution.yaml", TOKEN),
        ("models/final/tokenizer_config.json", "AKIA" + "ABCDEFGHIJ234567"),
        ("datasets/clone/train.jsonl", "sk-proj-abcdefgh12345678ABCDEFGH"),
    ],
)
def test_a_file_that_holds_a_token_is_refused_by_name_and_the_token_is_not_shown(
    place: str,
    secret: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "the variable's own value")
    run = copy_of(finished, tmp_path)
    hide(secret, run / place)
    assert release(run, tmp_path / "out") == 1
    told = capsys.readouterr()
    assert Path(place).name in told.err and "not released" in told.err
    assert secret not in told.err + told.out
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def hide(secret: str, file: Path) -> None:
    """Put a secret where it would be released, in the form of the file."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        row = json.loads(text.splitlines()[0])
        row["messages"][-1]["content"] += f" {secret}"
        text = json.dumps(row) + "\n" + text
    elif file.suffix == ".json":
        text = json.dumps(json.loads(text) | {"note": secret})
    else:
        text = yaml.safe_dump(yaml.safe_load(text) | {"description": secret})
    file.write_text(text, encoding="utf-8")


def test_a_path_of_this_machine_in_the_constitution_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished, tmp_path)
    hide(f"see {run}/notes.txt", run / "constitution.yaml")
    assert release(run, tmp_path / "out") == 1
    assert "a path of this machine" in capsys.readouterr().err


def test_a_run_that_is_not_finished_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished, tmp_path)
    manifest = json.loads((run / "run.json").read_text())
    manifest["stages"]["clone"] |= {"state": "failed", "failure": "the gate: stop rate 0.1"}
    (run / "run.json").write_text(json.dumps(manifest))
    assert release(run, tmp_path / "out") == 1
    assert "not finished: clone is failed (the gate: stop rate 0.1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--to", "OUT"], "is a path of this machine"),
        (["--to", "OUT", "--base-model", "org/tiny"], "the licence of org/tiny is not known"),
        (["--to", "OUT", "--base-model", "/models/tiny", "--base-license", "mit"], "is no Hub id"),
        (["--to", "OUT", "--base-model", "org/tiny", "--base-license", "x=ftp://y"], "neither a licence id nor"),
        (["--to", "hub:justaname", *KNOWN_BASE], "is not hub:OWNER/NAME"),
        (["--to", "hub:me/../x", *KNOWN_BASE], "is not hub:OWNER/NAME"),
    ],
)
def test_what_cannot_be_released_is_told_in_one_line(
    arguments: list[str],
    told: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = str(tmp_path / "out")
    assert main(["release", str(finished), *(out if word == "OUT" else word for word in arguments)]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and "Traceback" not in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda run: (run / "models" / "final" / "adapter_model.safetensors").unlink(), "lacks adapter_model"),
        (lambda run: (run / "models" / "final" / "generation_config.json").write_text("{}"), "names no eos_token_id"),
        (lambda run: (run / "models" / "final" / "adapter_config.json").write_text("{"), "is not JSON"),
        (lambda run: shutil.rmtree(run / "models"), "has no final model"),
        (lambda run: (run / "datasets" / "clone" / "train.jsonl").write_text('{"key": '), "train.jsonl:1 is not a"),
        (lambda run: shutil.rmtree(run / "datasets"), "holds no rows"),
    ],
)
def test_a_damaged_run_is_told_in_one_line(
    damage: Callable[[Path], object], told: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(finished, tmp_path)
    damage(run)
    assert release(run, tmp_path / "out") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_directory_in_use_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("x")
    assert release(finished, tmp_path) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# -------------------------------------------------------------------------------------------------------------- upload


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    with hub_server() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def test_without_yes_nothing_is_uploaded_and_the_command_is_shown(
    hub: Hub, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(finished, "hub:me/kind", "--private") == 0
    shown = capsys.readouterr().out
    assert shown.endswith(
        f"selfalign release {finished} --to hub:me/kind --private --base-model org/tiny "
        "--base-license apache-2.0 --yes\n"
    )
    assert not hub.tokens


def test_a_release_is_one_commit_in_each_repository(
    hub: Hub, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(finished, "hub:me/kind", "--yes") == 0
    assert hub.commits == ["datasets/me/kind-data", "me/kind"]
    assert set(hub.repos["me/kind"]) == COMMON | ADAPTER
    assert set(hub.repos["datasets/me/kind-data"]) == DATASET
    weights = (finished / "models" / "final" / "adapter_model.safetensors").read_bytes()
    assert hub.repos["me/kind"]["adapter_model.safetensors"] == weights
    card = hub.repos["me/kind"]["README.md"].decode()
    assert "datasets:\n- me/kind-data" in card and 'model="me/kind", tokenizer="me/kind"' in card
    shown = capsys.readouterr()
    assert shown.out.split() == [f"{hub.url}/datasets/me/kind-data", f"{hub.url}/me/kind"]
    assert hub.tokens == {f"Bearer {TOKEN}", ""}  # without one where the storage said where to put the weights
    assert TOKEN not in shown.out + shown.err
    assert not [name for repo in hub.repos.values() for name, content in repo.items() if TOKEN.encode() in content]


def test_weights_of_an_earlier_release_go_and_the_owner_s_files_stay(hub: Hub, finished: Path) -> None:
    hub.repos["me/kind"] = {"model-00001-of-00002.safetensors": b"", "logo.png": b""}
    assert release(finished, "hub:me/kind", "--yes") == 0
    assert set(hub.repos["me/kind"]) == COMMON | ADAPTER | {"logo.png"}


def test_a_public_repository_is_not_used_for_a_private_release(
    hub: Hub, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(finished, "hub:me/kind", "--yes", "--private") == 1
    assert "exists and is public" in capsys.readouterr().err
    assert hub.commits == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_may_not_write_is_told_in_one_line(
    status: int, hub: Hub, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuse = status
    assert release(finished, "hub:me/kind", "--yes") == 1
    told = capsys.readouterr().err
    assert f"the Hub refuses to write to me/kind-data (HTTP {status})" in told
    assert TOKEN not in told


def test_no_token_no_upload(
    hub: Hub, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert release(finished, "hub:me/kind", "--yes") == 2
    assert "no Hub token" in capsys.readouterr().err
    assert not hub.tokens


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("HF_HUB_OFFLINE", True, "HF_HUB_OFFLINE is set"),
        ("ENDPOINT", "http://127.0.0.1:9", "cannot reach the Hub"),  # the port of `discard`: nobody listens
    ],
)
def test_no_network_is_told_in_one_line(
    setting: str,
    value: Any,
    told: str,
    hub: Hub,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"huggingface_hub.constants.{setting}", value)
    assert release(finished, "hub:me/kind", "--yes") == 1
    assert told in capsys.readouterr().err
