"""The command line as a user meets it: what it prints, where, and its exit status. No fault shows a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from selfalign.cli.doctor import EXTRAS
from selfalign.cli.main import COMMANDS, main
from selfalign.pipeline.manifest import STAGES
from selfalign.records import Record
from tests.constitution.small import SMALL, changes, line_of
from tests.support import scripts
from tests.support.runs import STORES, data_files, files, run, small_recipe

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "tqdm",
    "rapidfuzz",
    "prompt_toolkit",
    "gguf",
)
SCRIPTED = 'engine: {kind: scripted, script: "tests.support.scripts:slow_answer"}\nchunk_size: 4\n'


class Said(NamedTuple):
    """What a command left: exit status, standard output, standard error."""

    code: int
    out: str
    err: str


class Command:
    """Calls `selfalign` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        self.capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        said = Said(code, *self.capsys.readouterr())
        assert "Traceback" not in said.err
        return said


@pytest.fixture
def selfalign(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A scripted recipe file."""
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    path = tmp_path / "demo.yaml"
    sizes = "topics: {per_type: 2, rounds: 1}\ninstructions: {topic_guided: 3, self_instruct: 3}\n"
    path.write_text(f"constitution: {tmp_path / 'small.yaml'}\n{SCRIPTED}{sizes}", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to look at."""
    folder = tmp_path_factory.mktemp("finished")
    run(small_recipe(folder, instructions={"topic_guided": 20, "self_instruct": 20}), folder / "run")
    return folder / "run"


def python(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, in the repository."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | settings
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


# ----------------------------------------------------------------------------------------------------- help and usage


def test_help_answers_at_once_for_every_command() -> None:
    code = f"""
import sys
from selfalign.cli.doctor import EXTRAS
from selfalign.cli.main import COMMANDS, main
for arguments in [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]:
    try:
        main(arguments)
    except SystemExit as left:
        assert left.code == 0, arguments
    if arguments == ["--help"]:
        first = [name for name in ("pydantic", "yaml", "jinja2") if name in sys.modules]
        assert not first, first
heavy = [name for name in {HEAVY} if name in sys.modules]
assert not heavy, heavy
"""
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    for name, command in COMMANDS.items():
        assert f"usage: selfalign {name} " in done.stdout
        assert command.help in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run", "--colour"], "unrecognized arguments: --colour"),
        (["status"], "the following arguments are required: run"),
        (["samples", "RUN"], "the following arguments are required: --stage"),
        (["samples", "RUN", "--stage", "topics", "-n", "many"], "argument -n: invalid int value: 'many'"),
        (["constitution", "burn"], "invalid choice: 'burn'"),
        (["run"], "selfalign run needs a recipe"),
        (["run", "none.yaml"], "no recipe at none.yaml"),
        (["status", "."], ". is no run directory: it has no run.json"),
        (["samples", "nowhere", "--stage", "topics"], "nowhere is no run directory"),
        (["report", "nowhere"], "nowhere is no run directory"),
        (
            ["constitution", "check", "none.yaml"],
            "no constitution 'none.yaml': neither a file nor a built-in (dromedary)",
        ),
        (["constitution", "show", "none.yaml"], "no constitution 'none.yaml'"),
        (["chat", "some/model", "--temperature", "-1"], "--temperature must be at least 0"),
    ],
)
def test_wrong_usage_exits_2_and_says_why(
    selfalign: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = selfalign(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert files(tmp_path) == {}


# ------------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "seed"], "--set 'seed' is not of the form a.b=c"),
        (["--set", "chunk_size.deep=1"], "--set 'chunk_size.deep=1': chunk_size is not a section"),
        (["--set", "seed=[1"], "--set 'seed=[1': the value is not YAML"),
        (["--set", "identity_name=2024-99-99"], "--set 'identity_name=2024-99-99': the value is not YAML"),
        (["--set", "sede=1"], "sede: unknown key; known here: base_model, constitution"),
        (["--set", "responses.attempts=0"], "responses.attempts: 0: input should be greater than or equal to 1"),
        (
            ["--set", "responses.temperature=yes"],
            "responses.temperature: True: input should be a number, not true or false",
        ),
        (["--set", "seed=4294967296"], "seed: 4294967296: input should be less than 4294967296"),
        (
            ["--until", "elaborate"],
            "--until 'elaborate' is no stage; stages are topics, instructions, responses, engrave",
        ),
        (["--dry-run", "--until", "elaborate"], "--until 'elaborate' is no stage; stages are topics, instructions"),
        (["--set", "constitution=none.yaml"], "no constitution 'none.yaml'"),
    ],
)
def test_a_faulty_option_exits_2_and_starts_nothing(
    selfalign: Command, recipe: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    said = selfalign("run", recipe, "--out", tmp_path / "run", *arguments)
    assert said.code == 2
    assert f"selfalign: {told}" in said.err or f"\n  {told}" in said.err
    assert not (tmp_path / "run").exists()


def test_all_faults_of_a_recipe_are_told_at_once(selfalign: Command, tmp_path: Path) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_text("sede: 1\nengine: {kind: warp}\nresponses: {attempts: 0, topp: 1}\n")
    said = selfalign("run", path, "--out", tmp_path / "run", "--set", "clone.lora_r=x")
    assert said.code == 2
    head, *lines, hint = said.err.splitlines()
    assert head == f"selfalign: {path}: 5 faults"
    assert {line.split(":")[0].strip() for line in lines} == {
        "sede", "engine.kind", "responses.attempts", "responses.topp", "clone.lora_r",
    }  # fmt: skip
    assert hint == f"  next: mend {path} or the --set options and run the same command again"


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe", b"identity_name: 2024-99-99", b"- 1"])
def test_a_recipe_that_cannot_be_read_is_told(selfalign: Command, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_bytes(content)
    said = selfalign("run", path, "--out", tmp_path / "run")
    assert said.code == 2
    assert said.err.startswith(f"selfalign: {path} ")


def test_a_faulty_constitution_is_told_with_lines(selfalign: Command, recipe: Path, tmp_path: Path) -> None:
    text = changes(("number: 2", "number: two"))
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
    said = selfalign("run", recipe, "--out", tmp_path / "run")
    assert said.code == 2
    assert f"{tmp_path / 'small.yaml'}:{line_of(text, 'number: two')}: principles[1].number: 'two' must be" in said.err
    assert not (tmp_path / "run").exists()


def test_options_are_a_recipe_that_holds(selfalign: Command, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(selfalign("run", "--options").out, encoding="utf-8")
    assert selfalign("run", path, "--dry-run").code == 0


# ----------------------------------------------------------------------------------------------------------------- run


def test_a_dry_run_estimates_and_creates_nothing(
    selfalign: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    said = selfalign("run", recipe, "--dry-run")
    assert (said.code, said.err) == (0, "")
    rows = [line.split()[0] for line in said.out.splitlines() if line]
    assert rows[:9] == ["stage", *STAGES[:-1], "total"]
    assert "Nothing was run." in said.out
    assert files(tmp_path) == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("until", STAGES)
def test_a_dry_run_ends_where_the_run_would(
    selfalign: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where no runs/demo stands, as it does after `make demo`
    said = selfalign("run", recipe, "--dry-run", "--until", until)
    rows = [line.split()[0] for line in said.out.splitlines()]
    shown = STAGES[: STAGES.index(until) + 1]
    assert rows[: rows.index("total")] == ["stage", *(stage for stage in shown if stage != "report")]


def test_a_dry_run_of_a_timed_run_changes_nothing_and_is_refused_as_the_run_would_be(
    selfalign: Command, finished: Path
) -> None:
    before, arguments = files(finished), (finished / "recipe.yaml", "--out", finished, "--dry-run")
    assert selfalign("run", *arguments).code == 0
    said = selfalign("run", *arguments, "--set", "seed=9")
    assert (said.code, said.out) == (2, "")
    assert "was made by other settings: seed was 0, now 9; topics has data" in said.err
    assert files(finished) == before


def test_run_says_where_the_results_are(
    selfalign: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = selfalign("run", recipe, "--until", "topics")
    assert (said.code, said.out) == (0, "")
    assert "topics: done in" in said.err
    said = selfalign("run", recipe)
    assert said.code == 0
    assert (
        said.out == "report  runs/demo/report.html\n"
    )  # runs/ and the recipe's name; the scripted engine trains nothing
    assert "topics: done" not in said.err
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    (tmp_path / "runs" / "demo" / "models" / "final").mkdir(parents=True)
    assert selfalign("run", recipe).out.splitlines() == [
        "report  runs/demo/report.html",
        "model   runs/demo/models/final",
        "talk    selfalign chat runs/demo",
    ]


def test_ctrl_c_exits_130_and_the_same_command_goes_on(
    selfalign: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def stops(request: object) -> str:
        asked.append(request.key)  # type: ignore[attr-defined]
        if len(asked) == 15:
            raise KeyboardInterrupt
        return scripts.answer(request)  # type: ignore[arg-type]

    monkeypatch.setattr(scripts, "slow_answer", stops)
    said = selfalign("run", recipe, "--out", tmp_path / "run")
    assert (said.code, said.out) == (130, "")
    assert said.err.endswith("\nselfalign: stopped; the same command goes on from here\n")
    assert selfalign("run", recipe, "--out", tmp_path / "run").code == 0
    assert selfalign("run", recipe, "--out", tmp_path / "whole").code == 0
    assert data_files(tmp_path / "run") == data_files(tmp_path / "whole")


def test_a_file_that_cannot_be_written_is_one_line(
    selfalign: Command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), "/somewhere")

    monkeypatch.setattr("selfalign.cli.run.execute", fails)
    assert selfalign("run", recipe) == (1, "", "selfalign: /somewhere: Permission denied\n")


def test_a_reader_that_leaves_is_no_fault() -> None:
    command = [sys.executable, "-m", "selfalign", "constitution", "show"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


# -------------------------------------------------------------------------------------------------------------- models


def test_an_unknown_model_offline_names_the_embedded_default(
    selfalign: Command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments = ("--set", "engine.kind=embedded", "--set", "base_model=nobody/no-such-model")
    said = selfalign("run", recipe, "--out", tmp_path / "run", *arguments)
    assert said.code == 2
    assert "selfalign: cannot get 'nobody/no-such-model' from the Hub" in said.err
    assert "base_model: smollm2-135m" in said.err
    said = selfalign("chat", "nobody/no-such-model")
    assert said.code == 2
    assert "smollm2-135m" in said.err
    # The name was wrong and nothing was made, so it may be put right in the same directory.
    assert selfalign("run", recipe, "--out", tmp_path / "run", "--until", "topics").code == 0


def test_a_model_directory_that_lacks_a_part_is_told(selfalign: Command, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert f"{model} is no model directory: it has no config.json" in selfalign("chat", model).err
    (model / "config.json").write_text("{}")
    said = selfalign("chat", model)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"selfalign: {model} has no tokenizer (tokenizer.json)\n"
        f"  next: copy the tokenizer files of its base model to {model}\n"
    )
    (model / "tokenizer.json").write_text("{}")
    assert f"{model} has no weights (*.safetensors)" in selfalign("chat", model).err


def test_a_run_without_a_model_is_told(selfalign: Command, finished: Path) -> None:
    said = selfalign("chat", finished)
    assert (said.code, said.err) == (
        2,
        f"selfalign: {finished} has no model yet\n  next: selfalign status {finished}\n",
    )


def test_a_truncated_gguf_is_told_and_leaves_nothing(
    selfalign: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, file = tmp_path / "cache", tmp_path / "model.gguf"
    monkeypatch.setenv("SELFALIGN_CACHE", str(cache))
    file.write_bytes(b"GGUF" + bytes(range(200)))
    said = selfalign("chat", file)
    assert (said.code, said.out) == (2, "")
    assert f"selfalign: {file} cannot be read as GGUF: " in said.err
    assert said.err.endswith("  next: download the file again\n")
    assert list(cache.iterdir()) == []
    file.write_bytes(b"PK" + bytes(200))
    assert f"{file} is not a GGUF file" in selfalign("chat", file).err


def test_models_and_doctor_answer_without_a_run(
    selfalign: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    said = selfalign("models")
    assert said.code == 0
    assert "smollm2-135m" in said.out and "runs here:  none" in said.out
    said = selfalign("doctor")
    assert said.code == 0
    heads = [line.split()[0] for line in said.out.splitlines()]
    assert set(heads) == {"machine", "versions", "computes", "compiler", "default", "extra"}
    assert heads.count("extra") == len(EXTRAS)
    assert files(tmp_path) == {}


# -------------------------------------------------------------------------------------------------- status and samples


def test_status_json_has_exactly_this_shape(selfalign: Command, finished: Path, recipe: Path, tmp_path: Path) -> None:
    selfalign("run", recipe, "--out", tmp_path / "run", "--until", "topics")
    for path in (finished, tmp_path / "run"):
        said = selfalign("status", path, "--json")
        assert (said.code, said.err) == (0, "")
        whole = json.loads(said.out)
        assert list(whole) == ["stages", "progress"]
        assert (whole["progress"]["state"], whole["progress"]["cost"]) == ("done", None)
        assert list(whole["stages"]) == list(STAGES)
        for name, row in whole["stages"].items():
            searched = {"decontamination": dict} if name in ("engrave", "clone") and row["state"] == "done" else {}
            assert {field: type(value) for field, value in row.items()} == searched | {
                "state": str,
                "accepted": int,
                "rejected": dict,
                "seconds": float,
                "engine_seconds": float,
                "tokens": dict,
                "jobs": int,
                "parts": dict,
            }
            assert list(row["tokens"]) == ["prompt", "completion"]
            assert all(type(value) is int for value in [*row["tokens"].values(), *row["rejected"].values()])
    assert [row["state"] for row in whole["stages"].values()] == ["done"] + ["pending"] * 7


def test_status_is_a_table(selfalign: Command, finished: Path) -> None:
    said = selfalign("status", finished)
    assert (said.code, said.err) == (0, "")
    head, *rows = said.out.split("\n\n")[0].splitlines()
    assert head.split() == [
        "stage",
        "state",
        "accepted",
        "rejected",
        "yield",
        "prompt",
        "tokens",
        "new",
        "tokens",
        "seconds",
    ]
    assert [row.split()[:2] for row in rows] == [[stage, "done"] for stage in STAGES]
    accepted = len((finished / "topics.jsonl").read_text(encoding="utf-8").splitlines())
    assert rows[0].split()[2] == str(accepted)
    assert "\nrejected in topics: " in said.out


def test_a_killed_run_is_not_said_to_be_running(selfalign: Command, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    selfalign("run", recipe, "--out", path, "--until", "topics")
    manifest, progress = (
        json.loads((path / name).read_text(encoding="utf-8")) for name in ("run.json", "progress.json")
    )
    manifest["stages"]["instructions"]["state"] = "running"
    progress |= {"state": "running", "stage": "instructions", "pid": 2**22 + 1}  # more than a process's number can be
    (path / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    (path / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    rows = selfalign("status", path).out.splitlines()
    assert rows[2].split()[:2] == ["instructions", "interrupted"]
    assert selfalign("report", path).code == 0
    assert "Stopped in instructions." in (path / "report.html").read_text(encoding="utf-8")


def test_samples_show_records_for_the_eye(selfalign: Command, finished: Path) -> None:
    said = selfalign("samples", finished, "--stage", "responses", "-n", 3)
    assert (said.code, said.err) == (0, "")
    for start in ("--- ", "user: ", "thought: ", "assistant: "):
        assert sum(line.startswith(start) for line in said.out.splitlines()) == 3
    assert "rejected by" not in said.out
    assert said == selfalign("samples", finished, "--stage", "responses", "-n", 3)
    assert said != selfalign("samples", finished, "--stage", "responses", "-n", 3, "--seed", 1)
    said = selfalign("samples", finished, "--stage", "instructions", "--rejected", "-n", 4)
    assert sum(line.startswith("rejected by ") for line in said.out.splitlines()) == 4


@pytest.mark.parametrize("stage", STORES)
@pytest.mark.parametrize("rejected", [False, True])
def test_samples_as_json_are_the_records(selfalign: Command, finished: Path, stage: str, rejected: bool) -> None:
    said = selfalign("samples", finished, "--stage", stage, "--json", "-n", 1000, *["--rejected"] * rejected)
    file = finished / ("rejected" if rejected else "") / f"{stage}.jsonl"
    assert said.code == 0
    assert sorted(said.out.splitlines()) == sorted(file.read_text(encoding="utf-8").splitlines())
    assert {Record.from_json(line).verdict.accepted for line in said.out.splitlines()} == {not rejected}


def test_samples_that_cannot_be(selfalign: Command, finished: Path, recipe: Path, tmp_path: Path) -> None:
    said = selfalign("samples", finished, "--stage", "engrave")
    assert said.code == 2
    assert "--stage 'engrave' has no records; stages with records are topics, instructions, responses" in said.err
    said = selfalign("samples", finished, "--stage", "topics", "-n", 0)
    assert (said.code, said.err) == (2, "selfalign: -n 0 must be at least 1\n")
    selfalign("run", recipe, "--out", tmp_path / "run", "--until", "topics")
    said = selfalign("samples", tmp_path / "run", "--stage", "responses")
    assert said.code == 1
    assert f"{tmp_path / 'run'} has no accepted records of responses\n  next: selfalign status" in said.err
    with (tmp_path / "run" / "topics.jsonl").open("ab") as file:
        file.write(b'{"key": "\xe6\xbc')
    said = selfalign("samples", tmp_path / "run", "--stage", "topics")
    assert said.code == 2
    assert "topics.jsonl:" in said.err and "is not a record" in said.err


def test_doctor_tells_what_is_missing_and_how_to_have_it(selfalign: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign.cli.doctor.EXTRAS", {"ray": (("ray_that_is_not_there",), "engine: ray")})
    monkeypatch.setenv("CC", "cc-that-is-not-there")
    said = selfalign("doctor")
    assert said.code == 0
    assert "extra       ray (engine: ray) without ray_that_is_not_there: pip install 'selfalign[ray]'" in said.out
    assert "compiler    no cc-that-is-not-there: on a CPU the embedded engine takes PyTorch's operators" in said.out


def test_the_extras_that_doctor_knows_are_those_of_the_package() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared) - {"demo", "dev"}


def test_a_report_is_written_for_an_unfinished_run_too(selfalign: Command, recipe: Path, tmp_path: Path) -> None:
    selfalign("run", recipe, "--out", tmp_path / "run", "--until", "topics")
    said = selfalign("report", tmp_path / "run")
    assert (said.code, said.out) == (0, f"{tmp_path / 'run' / 'report.html'}\n")


# -------------------------------------------------------------------------------------------------------- constitution


def test_constitution_check_tells_every_fault_with_its_line(selfalign: Command, tmp_path: Path) -> None:
    text = changes(
        ("licence: Apache-2.0", "license: x"), ("Says {{ name }}.", "Says {{ nam }}."), ("Say hello.", "'### hello'")
    )
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    said = selfalign("constitution", "check", file)
    assert said.code == 2
    places = [line.split(": ")[0] for line in said.out.splitlines()]
    assert places == [f"{file}:{line_of(text, marker)}" for marker in ("license: x", "{{ nam }}", "### hello")]
    assert "warning: " in said.out.splitlines()[2]
    assert said.err == f"{file}: 2 errors, 1 warning\n"


def test_constitution_check_of_what_is_no_yaml(selfalign: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"name: [1\nb: 2\n")
    said = selfalign("constitution", "check", file)
    assert said.code == 2
    assert said.out.startswith(f"{file}:2: not YAML: ")
    file.write_bytes(b"name: \xff\n")
    said = selfalign("constitution", "check", file)
    assert (said.code, said.out) == (2, "")
    assert "is not UTF-8 text" in said.err


def test_constitution_check_of_a_sound_one(selfalign: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SMALL, encoding="utf-8")
    assert selfalign("constitution", "check", file) == (0, "", f"{file}: 0 errors, 0 warnings\n")
    said = selfalign("constitution", "check")
    assert (said.code, said.out) == (0, "")
    assert said.err.endswith("dromedary.yaml: 0 errors, 0 warnings\n")


def test_constitution_show_and_ledger(selfalign: Command, tmp_path: Path) -> None:
    shown = selfalign("constitution", "show")
    assert (shown.code, shown.err) == (0, "")
    (tmp_path / "mine.yaml").write_text(shown.out, encoding="utf-8")
    assert selfalign("constitution", "show", tmp_path / "mine.yaml") == shown
    said = selfalign("constitution", "ledger", tmp_path / "mine.yaml")
    assert said == selfalign("constitution", "ledger")
    assert said.code == 0
    assert "fewer than 300" in said.out
