"""The benchmark harness: it gives every engine the same work, counts it, and says what it could not measure."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.engines import compare, growth, provenance, scoring, scoring_ours, table
from benchmarks.engines.__main__ import main, parser
from benchmarks.engines.bound import bounds, linear_weights
from benchmarks.engines.compare import Setting, make_job
from benchmarks.engines.job import Job, Loaded
from benchmarks.engines.peers import PEERS, Peer
from benchmarks.engines.process import MeasurementFailed, start
from benchmarks.engines.run_peer import WARM_UP_TOKENS, check, measure

from selfalign.engines.tokenization import Tokenization
from selfalign.errors import UserError
from tests.support.tiny import tiny_model, tiny_model_dir, tiny_tokenizer

RUNS_HERE = ["embedded", "transformers", "transformers-prefix"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model. It has a token a byte, so prompts of 16 to 40 tokens are few and short."""
    return tiny_model_dir(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def byte_sized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts as long in bytes as real ones are."""
    monkeypatch.setattr("benchmarks.engines.workload.UNSHARED_TOKENS", range(80, 180))


@pytest.fixture
def setting(model: Path) -> Setting:
    return Setting(str(model), instructions=5, new_tokens=6, dtype="float32", repeats=2, prefix_tokens=200)


def job_of(name: str, setting: Setting) -> Job:
    return replace(make_job(setting), options={**PEERS[name].options, "batch_size": 2})


# -------------------------------------------------------------------------------------------------------- workload


def test_the_workload_is_as_large_as_asked_for_and_always_the_same(setting: Setting) -> None:
    job = make_job(setting)
    assert len(set(job.measured.prompts)) == 5
    assert len(job.measured.prefix_ids) == 200
    assert job == make_job(setting)


def test_text_and_token_ids_are_the_same_work(setting: Setting) -> None:
    tokenization = Tokenization(tiny_tokenizer())
    work = make_job(setting).measured
    assert [tokenization.encode(work.prefix + prompt) for prompt in work.prompts] == work.sequences


def test_the_warm_up_puts_nothing_of_the_measured_work_into_a_cache(setting: Setting) -> None:
    job = make_job(setting)
    assert not set(job.warm_up.prompts) & set(job.measured.prompts)
    assert job.warm_up.prefix_ids[:16] != job.measured.prefix_ids[:16]


def test_a_long_prefix_is_made_by_repeating(setting: Setting) -> None:
    assert len(make_job(replace(setting, prefix_tokens=20_000)).measured.prefix_ids) == 20_000


def test_no_prefix_at_all(setting: Setting) -> None:
    work = make_job(replace(setting, prefix_tokens=0)).measured
    assert (work.prefix, work.prefix_ids) == ("", [])


def test_more_instructions_than_there_are_is_an_error_with_the_number(setting: Setting) -> None:
    with pytest.raises(UserError, match="99999 are wanted"):
        make_job(replace(setting, instructions=99_999))


def test_a_job_survives_its_file(setting: Setting, tmp_path: Path) -> None:
    job = make_job(setting)
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


# ---------------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("name", RUNS_HERE)
def test_an_engine_is_timed_on_the_whole_work(name: str, setting: Setting) -> None:
    outcome = measure(PEERS[name].module, job_of(name, setting))
    assert outcome["tokens"] == 5 * 6
    assert outcome["tokens_per_second"] == pytest.approx(30 / outcome["seconds"], rel=0.05)
    assert outcome["peak_mib"] >= outcome["resident_mib"] > 0
    assert outcome["versions"]["torch"]


def test_less_work_than_the_others_do_is_no_figure(setting: Setting) -> None:
    with pytest.raises(ValueError, match="not 5 times 6"):
        check([6, 6, 6, 6, 5], make_job(setting))


def test_the_warm_up_is_shorter_than_what_is_timed() -> None:
    assert Setting("any").new_tokens > WARM_UP_TOKENS


def test_the_prefix_peer_writes_what_plain_generate_writes(model: Path, setting: Setting) -> None:
    """Both greedy and with the logits' rounding in float32: padding behind a cached prefix shifts no position."""
    import torch
    from benchmarks.engines.peers.hugging_face import load_plain
    from benchmarks.engines.peers.transformers_prefix import behind_prefix, prefix_cache

    job = make_job(setting)
    loaded, work, order = load_plain(job), job.measured, [0, 1, 2]
    with torch.inference_mode():
        cache = prefix_cache(loaded, work.prefix_ids)
        cache.batch_repeat_interleave(len(order))
        ids, mask = behind_prefix(work, order, "cpu")
        greedy = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": 0}
        behind = loaded.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **greedy)
        for row, index in enumerate(order):
            alone = loaded.generate(input_ids=torch.tensor([work.sequences[index]]), **greedy)
            assert behind[row, -6:].tolist() == alone[0, -6:].tolist()


# ------------------------------------------------------------------------------------------------------- comparison


def load(job: Job) -> Loaded:
    """This file as a peer: an engine that needs no library, counts what it is asked for, and names its process."""
    return Loaded(lambda work, new: [new] * len(work.prompts), {"process": os.getpid()}, {})


COUNTING = Peer(__name__, "json", "")


def test_engines_take_turns_each_in_a_fresh_process(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PEERS, "a", COUNTING)
    monkeypatch.setitem(PEERS, "b", COUNTING)
    result = compare.compare(["a", "b"], setting, with_bound=False)
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["a 1", "b 1", "a 2", "b 2"]
    processes = {row["settings"]["process"] for row in result["engines"].values()}
    assert len(processes) == 2 and os.getpid() not in processes
    row = result["engines"]["a"]
    assert [repeat["tokens"] for repeat in row["repeats"]] == [30, 30]
    assert row["median"] == statistics.median(repeat["tokens_per_second"] for repeat in row["repeats"])


def test_the_table_has_the_share_of_the_bound() -> None:
    repeat = {"tokens_per_second": 250.0, "peak_mib": 700}
    bound = {"batch": 64, "tokens_per_second": 1000.0}
    shown = table.comparison({"engines": {"x": {"median": 250.0, "repeats": [repeat]}}, "bound": [bound]})
    assert "25%" in next(line for line in shown.splitlines() if line.startswith("| x "))


def test_an_engine_that_is_not_installed_is_left_out_with_the_way_to_install_it(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Peer("absent", "no_such_package", "pip install it", "SELFALIGN_ABSENT_PYTHON", "no/such/python")
    monkeypatch.setitem(PEERS, "absent", absent)
    result = compare.compare(["absent"], replace(setting, repeats=1), with_bound=False)
    assert result["engines"] == {"absent": {"skipped": "no_such_package is not installed: pip install it"}}
    assert "absent: no_such_package" in table.comparison(result)


def test_an_engine_that_fails_costs_no_other_its_figures(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "broken", Peer("no_such_module", "json", ""))
    monkeypatch.setitem(PEERS, "counting", COUNTING)
    result = compare.compare(["broken", "counting"], replace(setting, repeats=2), with_bound=False)
    assert "No module named" in result["engines"]["broken"]["skipped"]
    assert len(result["engines"]["counting"]["repeats"]) == 2


def test_a_failure_says_the_end_of_the_output_without_paths(setting: Setting) -> None:
    with pytest.raises(MeasurementFailed, match="exit status 1") as fault:
        start("benchmarks.engines.run_peer", ["no_such_module"], make_job(setting))
    assert "ModuleNotFoundError" in str(fault.value)
    assert str(Path(__file__).parents[1]) not in str(fault.value)


# ------------------------------------------------------------------------------------------- bound, growth, scoring


def test_the_bound_multiplies_every_linear_weight_with_the_head_once() -> None:
    model = tiny_model()
    parameters = sum(weight.numel() for weight in linear_weights(model))
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128
    assert parameters == 2 * layer + 258 * 64
    for row in bounds(model, [2, 8], runs=2):
        assert row.tokens_per_second == pytest.approx(row.batch / row.seconds, rel=0.2)


@pytest.mark.slow
def test_growth_measures_what_fits_and_names_what_does_not(setting: Setting) -> None:
    small = replace(setting, new_tokens=2)
    result = growth.grow(replace(small, instructions=1), [], [0, 4000])
    (row,) = result["prefixes"]
    assert (row["shared_tokens"], row["batch"], row["tokens"]) == (0, 64, 128)
    assert result["skipped"] == ["a prefix of 4000 tokens: the context holds 1024"]
    assert "| 64 " in growth.tables(result)


def test_picks_are_compared_question_by_question_with_both_margins() -> None:
    found = scoring.compare_picks([2, 3], [-1.0, -2.0, -5.0, -4.0, -4.5], [-1.0, -1.5, -3.0, -3.25, -9.0])
    assert found["same_picks"] == 1
    assert found["differing"] == [{"question": 1, "ours": 1, "harness": 0, "our_margin": 0.5, "harness_margin": 0.25}]
    assert found["accuracy"] == {"ours": 0.5, "harness": 1.0}
    assert found["furthest_apart_nats"] == 4.5


def test_scores_of_another_number_of_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="3 candidates"):
        scoring.compare_picks([3], [-1.0, -2.0, -3.0], [-1.0, -2.0])


def test_our_side_scores_the_pairs_it_is_given(setting: Setting) -> None:
    pairs = [["Q: Why?\nA:", " Because."], ["Q: Why?\nA:", " No one knows."], ["Q: Who?\nA:", " I."]]
    ours = scoring_ours.measure(replace(make_job(setting), options={"pairs": pairs}))
    assert len(ours["log_probabilities"]) == 3
    assert all(score < 0 for score in ours["log_probabilities"])
    rounded = 0.00051  # seconds, which are told to the millisecond
    assert ours["seconds"] - rounded < 3 / ours["requests_per_second"] < ours["seconds"] + rounded


# ---------------------------------------------------------------------------------------------------- command line


@pytest.mark.slow
def test_the_command_writes_table_and_json(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "PREFIX_TOKENS", 200)
    output = tmp_path / "bound.json"
    line = ["bound", "--model", setting.model, "--dtype", "float32", "--batches", "4", "--output", str(output)]
    assert main(line) == 0
    written = json.loads(output.read_text(encoding="utf-8"))
    assert written["bound"][0]["batch"] == 4
    assert written["machine"]["cores"] >= 1
    assert "tokens_per_second" in capsys.readouterr().out
    assert str(tmp_path) not in output.read_text(encoding="utf-8")


def test_compare_is_the_command_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--engines", "embedded,nothing"])
    assert "no engine nothing" in capsys.readouterr().err


def test_a_missing_data_file_is_a_user_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scoring", "--data", "no/such/file.json"]) == 2
    assert "no/such/file.json" in capsys.readouterr().err


def test_all_engines_have_their_module_and_are_compared_by_default() -> None:
    assert all(importlib.util.find_spec(peer.module) for peer in PEERS.values())
    assert parser().parse_args(["compare"]).engines == list(PEERS)


def test_what_is_written_down_has_no_path_and_no_host() -> None:
    assert provenance.command(["--model", "/some/where/tiny"]) == "python -m benchmarks.engines --model tiny"
    assert provenance.without_paths('File "/usr/lib/x/y.py", a/b and 3/4') == 'File "y.py", a/b and 3/4'
    assert set(provenance.machine()) == {"cpu", "features", "cores", "memory_gib", "system", "accelerator"}
