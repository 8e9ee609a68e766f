"""The report of a small made-up run, finished and not, with hostile text in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign.errors import UserError
from selfalign.records import Record, Tokens, Verdict, content_hash
from selfalign.report.build import build_report
from selfalign.report.principles import principle_report
from selfalign.report.read import read_run
from selfalign.report.stages import stage_rows, total_row
from selfalign.report.training import loss_curve
from selfalign.report.words import decimal, duration, money, percent, visible

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }} Ünïcode 漢字 \x1b[31m \ud800"
PARAGRAPH = (
    "A heat pump moves heat instead of making it: a refrigerant evaporates outdoors, is compressed until it is hot, "
    "and gives that heat to the water of your radiators.\n\n1. It needs no flue.\n2. It works best at low flow "
    "temperatures.\n3. In a cold spell its efficiency falls, but stays above that of direct heating.\n\n"
)


def record(stage: str, index: int, user: str, assistant: str = "", **fields: Any) -> Record:
    messages = [{"role": "user", "content": user}] if user else []
    messages += [{"role": "assistant", "content": assistant}] if assistant else []
    key = content_hash([stage, index, fields.get("verdict") is None])
    return Record(key, stage, tuple(messages), tokens=Tokens(100, 20), **fields)  # type: ignore[arg-type]


def write_records(path: Path, records: list[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(json.loads(row.to_json())) + "\n" for row in records]  # ASCII: a lone surrogate has no UTF-8
    path.write_text("".join(lines), encoding="utf-8")


def constitution() -> dict[str, Any]:
    names = ["ethical", "informative", "helpful", "question assessment", "reasoning", "multi-aspect", "candor"]
    return {
        "name": "dromedary",
        "identity": {"name": "Aria", "maker": "Us", "cutoff": "2021"},
        "principles": [{"number": i, "name": name, "text": "Do."} for i, name in enumerate(names, 1)],
        "exemplars": [{"name": "one", "turns": [{"user": "Hi", "thought": "I should.", "response": "Hello."}]}],
        "instruction_types": [{"name": "need knowledge", "seed": {"topic": "Sea", "instruction": "Why?"}}],
        "styles": {"standard": "s", "concise": "c", "verbose": "v"},
        "templates": dict.fromkeys(["topics", "topic_guided", "self_instruct", "principles", "exemplars"], "t"),
        "seeds": [{"instruction": "Say hi."}],
    }


def training(steps: int, start: float, end: float) -> dict[str, Any]:
    losses = [end + (start - end) * 0.97**i + 0.15 * ((i * 37 % 17) / 17 - 0.5) for i in range(steps)]
    return {
        "steps": steps, "epochs": 1.0, "train_loss": sum(losses) / steps, "validation_loss_before": start + 0.03,
        "validation_loss": end + 0.05, "rows": steps * 8, "labelled_tokens": 31415, "losses": losses, "seconds": 412.3,
    }  # fmt: skip


def manifest() -> dict[str, Any]:
    def stage(accepted: int, rejected: dict[str, int], seconds: float, completion: int, jobs: int) -> dict[str, Any]:
        tokens = {"prompt": 40 * completion, "completion": completion}
        figures = {"accepted": accepted, "rejected": rejected, "seconds": seconds, "tokens": tokens, "jobs": jobs}
        return {"state": "done", **figures}

    nothing = stage(0, {}, 430.2, 0, 0)
    return {
        "selfalign": "0.1.0",
        "created": "2026-03-04T09:26:53+00:00",
        "machine": "2 cores, 23 GiB, x86_64, Linux",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "base_model": "smollm2-135m",
        "constitution": {"name": "dromedary", "hash": "c0ffee"},
        "ledger": {
            "paper": {"seeds": 195, "principles": 16, "exemplars": 5, "total": 216},
            "beside": {"identity questions": 96, "instruction types": 20, "non-blank lines of all text": 749},
        },
        "stages": {
            "topics": stage(120, {"novelty": 31}, 95.2, 2560, 40),
            "instructions": stage(160, {"novelty": 41, "too short": 7, "not a question": 2}, 260.0, 9100, 210),
            "responses": stage(150, {"citations": 23, "repetition": 4}, 905.0, 30211, 177),
            "engrave": {**nothing, "training": training(60, 2.4, 1.5)},
            "elaborations": stage(139, {}, 1405.0, 50211, 150),
            "clone": {**nothing, "training": training(500, 2.4, 1.3)},
            "evaluate": stage(0, {}, 312.0, 16022, 160),
            "report": {"state": "running"},
        },
    }


def held_out() -> dict[str, Any]:
    def variant(label: str, stopped: int, leaks: int, words: float) -> dict[str, Any]:
        return {"label": label, "n": 40, "stopped": stopped, "leaks": leaks, "mean_words": words}

    def sample(i: int) -> dict[str, Any]:
        answers = {
            "base": {"text": HOSTILE + "\n" + PARAGRAPH * 6, "finish_reason": "length", "leak": ""},
            "base+principles": {
                "text": PARAGRAPH,
                "thought": "I should follow the principles 2 (informative) and 7 (candor).",
                "finish_reason": "stop",
                "leak": "",
            },
            "engraved": {"text": "Short.", "finish_reason": "eos", "leak": "cites a principle: 7 (candor)"},
            "final": {"text": PARAGRAPH * 2, "finish_reason": "eos", "leak": ""},
        }
        return {"key": content_hash(i), "instruction": f"Held-out question {i}: how does it work?", "answers": answers}

    return {
        "variants": {
            "base": variant("base, no prompt", 12, 1, 188.1),
            "base+principles": variant("base under the principles", 40, 0, 61.0),
            "engraved": variant("engraved", 37, 1, 58.3),
            "final": variant("final", 38, 0, 161.9),
        },
        "samples": [sample(i) for i in range(40)],
    }


def write_data(run: Path) -> None:
    origin = {"type": "need knowledge of the sciences", "topic": "Heat pumps"}
    write_records(run / "topics.jsonl", [record("topics", i, "", topic=f"Topic {i}", type="t") for i in range(12)])
    asked = [record("instructions", i, f"Instruction {i}: what is it?", **(origin if i % 2 else {})) for i in range(30)]
    write_records(run / "instructions.jsonl", asked)
    thought = "The user asks. I should follow 2 (informative), 7 (candor)."
    replies = [
        record("responses", i, HOSTILE, PARAGRAPH, thought=thought, principles=(2, 7) if i % 3 else (2,), **origin)
        for i in range(6)
    ]
    replies += [record("responses", 90, "A question alone", HOSTILE, principles=(2, 2, 99))]
    write_records(run / "responses.jsonl", replies)
    write_records(run / "elaborations.jsonl", [record("elaborations", i, "Why?", PARAGRAPH * 4) for i in range(4)])
    verdict = Verdict.reject("novelty", "ROUGE-L 0.83 with 'What <b>is</b> it?'", 0.83)
    write_records(run / "rejected/instructions.jsonl", [record("instructions", 1, HOSTILE, verdict=verdict)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "my-run")


def write_run(run: Path) -> Path:
    write_data(run)
    (run / "run.json").write_text(json.dumps(manifest()), encoding="utf-8")
    (run / "constitution.yaml").write_text(yaml.safe_dump(constitution()), encoding="utf-8")
    (run / "recipe.yaml").write_text("base_model: smollm2-135m\nseed: 7 # <b>\n", encoding="utf-8")
    (run / "evaluation").mkdir()
    (run / "evaluation/held_out.json").write_text(json.dumps(held_out()), encoding="utf-8")
    return run


class Page(HTMLParser):
    """Every tag and attribute of a page, its visible text, and whether the tags are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br", "polyline", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.pieces.append(data)


def test_a_finished_run_has_every_section(run: Path) -> None:
    path = build_report(run)
    assert path == run / "report.html"
    assert not list(run.glob(".*.tmp"))
    page = Page(path)
    assert page.open == []
    for expected in (
        "my-run",
        "2026-03-04 09:26 UTC",
        "2 cores, 23 GiB",
        "7 of 7 done",
        "smollm2-135m is aligned with 216 human-written lines by the paper’s count "
        "(all that a human wrote has 749 lines).",
        "160 instructions of 210 candidates",
        "engrave lowered the validation loss",
        "the final model ended 38 of 40 answers by itself (95%, Wilson 95% interval 83% to 99%)",
        "the base model without a prompt 12 of 40 (30%, 18% to 45%); none of the final",
        "120 31 79% 40 1 min 35 s 102,400 2,560 26.9",
        "ROUGE-L 0.83 with 'What <b>is</b> it?'",
        "(not in the constitution)",
        "31,415",
        "12/40 30% 18% to 45%",
        "■ ended by itself",
        "… cut at limit",
        "▪ ended at a stop string",
        "leak: cites a principle: 7 (candor)",
        "Topic-guided instructions",
        "c0ffee",
        "seed: 7 # <b>",
    ):
        assert expected in page.text or expected.capitalize() in page.text, expected
    assert "not run yet" not in page.text.lower()
    assert len(re.findall("Held-out question", page.text)) == 10


def test_the_page_is_self_contained_and_inert(run: Path) -> None:
    page = Page(build_report(run))
    assert not page.tags & {"img", "link", "iframe", "object", "embed", "base", "form"}
    data, script = page.scripts
    assert json.loads(data)["records"] and not set("<>&") & set(data), "data that cannot end its element"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (value for name, value in page.attributes if "default-src" in value)
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; " in policy
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "action") and not name.startswith("on")
        assert name != "href" or value.startswith("#")
    assert "url(" not in (run / "report.html").read_text(encoding="utf-8")
    assert "@import" not in (run / "report.html").read_text(encoding="utf-8")


def test_hostile_text_is_shown_as_text(run: Path) -> None:
    text = Page(build_report(run)).text
    assert "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }} Ünïcode 漢字 ␛[31m \ufffd" in text


def test_an_unfinished_run_is_reported(run: Path) -> None:
    unfinished = manifest()
    for name in ("engrave", "elaborations", "clone", "evaluate", "report"):
        unfinished["stages"][name] = {"state": "pending", "accepted": 0, "rejected": {}, "seconds": 0, "jobs": 0}
    unfinished["stages"]["responses"]["state"] = "failed"
    (run / "run.json").write_text(json.dumps(unfinished), encoding="utf-8")
    (run / "evaluation/held_out.json").unlink()
    with (run / "responses.jsonl").open("ab") as file:
        file.write('{"key": "torn 漢'.encode()[:-1])
    page = Page(build_report(run))
    assert "Failed: responses. Not run yet: engrave, elaborations, clone and evaluate." in page.text
    assert "The evaluation: not run yet." in page.text
    assert "2 of 7 done" in page.text
    assert "A question alone" in page.text


def test_a_stage_whose_process_is_gone_is_stopped_not_running(run: Path) -> None:
    cut = manifest()
    cut["stages"]["engrave"]["state"] = "running"
    (run / "run.json").write_text(json.dumps(cut), encoding="utf-8")
    assert "Running now: engrave." in Page(build_report(run)).text
    text = Page(build_report(run, is_running=False)).text
    assert "Stopped in engrave." in text and "Running now" not in text


def test_a_run_that_has_only_begun_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"base_model": "m", "stages": {}}', encoding="utf-8")
    text = Page(build_report(tmp_path)).text
    for part in ("Topics", "Responses", "Elaborations", "The evaluation", "The ledger", "The recipe", "Filters"):
        assert f"{part}: not run yet." in text


def test_what_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        build_report(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is not JSON"):
        build_report(tmp_path)


def test_a_broken_line_inside_a_file_is_a_user_error(run: Path) -> None:
    (run / "topics.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"topics\.jsonl:1 is not a record"):
        build_report(run)


def test_principles_are_counted_once_a_response_and_by_kind(run: Path) -> None:
    report = principle_report(read_run(run))
    assert report is not None
    assert (report.topic_guided, report.self_instruct) == (6, 1)
    by_number = {row.number: row for row in report.rows}
    assert sorted(by_number) == [1, 2, 3, 4, 5, 6, 7, 99]
    assert by_number[2].all == (7, 1.0)
    assert by_number[7].topic_guided == (4, pytest.approx(4 / 6))
    assert by_number[7].self_instruct == by_number[1].all == (0, 0.0)


def test_the_total_leaves_training_out_of_the_speed(run: Path) -> None:
    total = total_row(stage_rows(read_run(run)))
    assert (total.accepted, total.rejected, total.share) == (569, 108, None)
    assert total.seconds == pytest.approx(95.2 + 260 + 905 + 1405 + 312 + 2 * 430.2)
    assert total.speed == pytest.approx(108104 / (95.2 + 260 + 905 + 1405 + 312))


def test_the_curve_fills_its_box_and_a_long_one_is_averaged() -> None:
    curve = loss_curve([3.0, 2.0, 1.0], None, 1.0)
    assert curve.points == "0.00,0.0 50.00,50.0 100.00,100.0"
    assert (curve.low, curve.high, curve.before, curve.after, curve.per_point) == (1.0, 3.0, None, 100.0, 1)
    flat = loss_curve([2.0] * 1000, float("nan"), None)
    assert (flat.per_point, len(flat.points.split()), flat.before) == (5, 200, None)


def test_how_numbers_and_text_are_written() -> None:
    assert [percent(share) for share in (None, 0, 0.004, 0.5, 0.996, 1)] == ["–", "0%", "0.4%", "50%", "99.6%", "100%"]
    assert [duration(s) for s in (None, 0.25, 59.6, 61, 7260)] == ["–", "0.2 s", "1 min 0 s", "1 min 1 s", "2 h 1 min"]
    assert [money(x) for x in (None, 0, 0.00864, 0.05, 1234.5)] == ["–", "0.00", "0.0086", "0.050", "1,234.50"]
    assert decimal(float("nan")) == "–"
    assert visible("a\r\nb\x00\x85") == "a\nb␀\ufffd"


if __name__ == "__main__":
    import sys

    print(build_report(write_run(Path(sys.argv[1]))))
