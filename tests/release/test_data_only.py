"""A run that stopped before its last training: `selfalign release` publishes its data set alone, and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import parquet

from selfalign.cli.main import main
from tests.release.hub import hub_server
from tests.support.runs import files, run, small_recipe

KNOWN_BASE = ("--base-model", "org/tiny", "--base-license", "apache-2.0")
ENGRAVE = {"README.md", "constitution.yaml", "recipe.yaml"} | {
    f"data/engrave/{split}.parquet" for split in ("train", "validation")
}
CLONE = {f"data/clone/{split}.parquet" for split in ("train", "validation")}
ROWS_OF = {"responses": {"engrave"}, "elaborations": {"engrave", "clone"}}


def release(run: Path, to: Path | str, *options: str) -> int:
    return main(["release", str(run), "--to", str(to), *KNOWN_BASE, *options])


def loaded(folder: Path, config: str | None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from datasets import load_dataset

    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    return load_dataset(str(folder / "dataset"), config, cache_dir=str(cache))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by the stage that they stopped after."""
    runs = {}
    for stage in ("topics", "instructions", "responses", "elaborations"):
        folder = tmp_path_factory.mktemp(stage)
        run(recipe(folder), folder / "run", until=stage)
        runs[stage] = folder / "run"
    return runs


def recipe(folder: Path) -> Any:
    return small_recipe(folder, base_model=str(folder / "base"), instructions={"topic_guided": 20, "self_instruct": 20})


@pytest.mark.parametrize(("stage", "wanted"), [("responses", ENGRAVE), ("elaborations", ENGRAVE | CLONE)])
def test_the_data_set_alone_is_written_and_one_line_says_so(
    stage: str, wanted: set[str], stopped: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(stopped[stage])
    assert release(stopped[stage], tmp_path / "out") == 0
    assert set(files(tmp_path / "out")) == {f"dataset/{name}" for name in wanted}
    told = capsys.readouterr().err.splitlines()
    path = stopped[stage]
    command = f"selfalign run {path}/recipe.yaml --out {path}"
    assert told == [f"{path} has no final model yet, so this is the data set alone; a model: {command}"]
    assert files(path) == before, "a release only reads"


@pytest.mark.parametrize("stage", list(ROWS_OF))
def test_its_rows_are_those_that_the_trainings_then_learn(
    stage: str, stopped: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release(stopped[stage], tmp_path / "out") == 0
    going_on = tmp_path / "run"
    shutil.copytree(stopped[stage], going_on)
    run(recipe(stopped[stage].parent), going_on)
    for config in ROWS_OF[stage]:
        data = loaded(tmp_path / "out", config, tmp_path / "cache", monkeypatch)
        assert set(data) == {"train", "validation"}
        for split, rows in data.items():
            lines = (going_on / "datasets" / config / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
            learnt = [json.loads(line) for line in lines]
            assert learnt and [(row["key"], row["messages"]) for row in rows] == [
                (row["key"], row["messages"]) for row in learnt
            ]


def test_it_loads_by_default_with_provenance(
    stopped: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release(stopped["responses"], tmp_path / "out") == 0
    rows = loaded(tmp_path / "out", None, tmp_path / "cache", monkeypatch)["train"]
    assert {"responses", "identity"} == set(rows["source"])
    of_records = [row for row in rows if row["source"] == "responses"]
    assert all(row["parents"] and row["seed"] and row["model"] == "org/tiny" for row in of_records)


def test_its_card_names_what_is_there_and_what_was_searched(stopped: dict[str, Path], tmp_path: Path) -> None:
    assert release(stopped["responses"], tmp_path / "out") == 0
    text = (tmp_path / "out" / "dataset" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert [config["config_name"] for config in front["configs"]] == ["engrave"]
    assert [info["config_name"] for info in front["dataset_info"]] == ["engrave"]
    accepted = json.loads((stopped["responses"] / "run.json").read_text())["stages"]["responses"]["accepted"]
    assert f"- engrave: 0 of {accepted} records overlapped; 0 of 2 identity pairs overlapped.\n" in text
    assert "has no final model yet" in text and "clone" not in text and "trained [" not in text
    assert "| generated rows | " in text and "| org/tiny | apache-2.0 |" in text


def test_its_card_names_the_identity_pairs_that_overlap_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiz.json").write_text(json.dumps([{"question": "Who are you?"}]))
    asked = small_recipe(tmp_path, base_model="org/tiny", decontaminate={"data": ["quiz.json"]})
    run(asked, tmp_path / "run", until="responses")
    assert release(tmp_path / "run", tmp_path / "out") == 0
    text = (tmp_path / "out" / "dataset" / "README.md").read_text(encoding="utf-8")
    assert "records overlapped; 1 of 2 identity pairs overlapped (quiz 1) and were kept.\n" in text
    assert '- Who are you? (question: ROUGE-L 1.00 with "Who are you?" of quiz)\n' in text
    rows = parquet.read_table(tmp_path / "out" / "dataset" / "data" / "engrave" / "train.parquet").to_pylist()
    assert [row["messages"][0]["content"] for row in rows if row["source"] == "identity"].count("Who are you?") == 1


def test_a_dry_run_shows_its_files_and_writes_none(
    stopped: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(stopped["responses"], tmp_path / "out", "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in shown[:-2]} == {f"dataset/{name}" for name in ENGRAVE}
    assert any("run/responses.jsonl, provenance added" in line for line in shown)
    assert list(tmp_path.iterdir()) == []


def test_only_the_data_set_s_repository_is_uploaded(
    stopped: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(stopped["responses"], "hub:me/kind") == 0
    assert "nothing was uploaded; to upload to me/kind-data:\n" in capsys.readouterr().out
    with hub_server() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_" + "aB3dE6gH9j" * 4)
        assert release(stopped["responses"], "hub:me/kind", "--yes") == 0
        assert hub.commits == ["datasets/me/kind-data"]
        assert set(hub.repos) == {"datasets/me/kind-data"}
        assert set(hub.repos["datasets/me/kind-data"]) == ENGRAVE
    assert capsys.readouterr().out.split() == [f"{hub.url}/datasets/me/kind-data"]


@pytest.mark.parametrize("stage", ["topics", "instructions"])
def test_a_run_without_responses_is_told_what_makes_them(
    stage: str, stopped: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(stopped[stage], tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "has nothing to release yet: responses is pending" in told and "--until responses" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("after", "begun"), [("instructions", "responses"), ("responses", "engrave")])
def test_a_run_in_the_middle_of_a_stage_is_refused(
    after: str, begun: str, stopped: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(stopped[after], tmp_path / "run"))
    manifest = json.loads((copy / "run.json").read_text())
    manifest["stages"][begun]["state"] = "running"
    (copy / "run.json").write_text(json.dumps(manifest))
    assert release(copy, tmp_path / "out") == 1
    assert f"is not finished: {begun} is running" in capsys.readouterr().err


def test_there_is_nothing_to_merge(
    stopped: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(stopped["responses"], tmp_path / "out", "--merged") == 1
    assert "has no final model yet, so there is nothing to merge" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
