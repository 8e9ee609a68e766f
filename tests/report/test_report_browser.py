"""The report in Chromium: it opens at once, searches, tells where a record comes from, and runs nothing but its script.

SELFALIGN_SCREENSHOTS=DIR keeps pictures of it: SELFALIGN_REPORT_RUN names the run that they show.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign.records import Record, Tokens, Verdict, content_hash
from selfalign.report.build import build_report
from selfalign.report.explorer import MOST_RECORDS
from tests.report.test_report import PARAGRAPH, manifest, write_records, write_run
from tests.support.chromium import chromium, wait_for

pytestmark = pytest.mark.slow

ATTACK = "<img src=x onerror='window.pwned=1'></script><script>window.pwned=2</script>"
THOUGHT = "The user asks. I should follow 2 (informative), 7 (candor)."
KIND = "need knowledge"
SECONDS = 2.0


def made(stage: str, index: int, messages: tuple[Any, ...] = (), **fields: Any) -> Record:
    engine = {"kind": "scripted", "model": "small"}
    key = content_hash([stage, index])
    return Record(key, stage, messages, tokens=Tokens(100, 20), engine=engine, seed=index, **fields)


def long_run(path: Path, families: int) -> Path:
    """A run with that many topics, instructions, responses and rejected responses, some of them hostile."""
    import json

    write_run(path)
    topics = [made("topics", i, type=KIND, topic=f"Topic {i}") for i in range(families)]
    asked, answered, rejected = [], [], []
    for i, topic in enumerate(topics):
        user = {"role": "user", "content": f"Instruction {i}: {ATTACK if i % 100 == 0 else 'what is it about?'}"}
        origin = {"type": KIND, "topic": topic.topic}
        asked.append(made("instructions", i, (user,), parents=(topic.key,), **origin))
        reply = {"role": "assistant", "content": f"{ATTACK if i % 50 == 0 else 'An answer.'} {PARAGRAPH * 2}"}
        told = {"parents": (asked[-1].key,), "thought": THOUGHT, "principles": (2, 7) if i % 3 else (1,), **origin}
        answered.append(made("responses", 2 * i, (user, reply), **told))
        rejected.append(
            made("responses", 2 * i + 1, (user,), verdict=Verdict.reject("no_response", "no response: 0 words"), **told)
        )
    for name, records in (("topics", topics), ("instructions", asked), ("responses", answered)):
        write_records(path / f"{name}.jsonl", records)
    write_records(path / "rejected/responses.jsonl", rejected)
    for other in ("elaborations.jsonl", "rejected/instructions.jsonl"):
        (path / other).unlink()
    content = manifest()
    for name in ("topics", "instructions", "elaborations"):
        content["stages"][name] |= {"accepted": families * (name != "elaborations"), "rejected": {}}
    content["stages"]["responses"] |= {"accepted": families, "rejected": {"no_response": families}}
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of as many records as a page holds."""
    return build_report(long_run(tmp_path_factory.mktemp("long") / "run", MOST_RECORDS // 4))


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.asked = []
    opened.said = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda fault: opened.said.append(str(fault)))
    opened.goto(report.as_uri())
    yield opened
    opened.close()


def test_ten_thousand_records_open_in_two_seconds_without_network(browser: Any, report: Path) -> None:
    took = []
    for _ in range(3):
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        start = time.monotonic()
        page.goto(report.as_uri())
        page.wait_for_selector("#found li")
        took.append(time.monotonic() - start)
        assert asked == [report.as_uri()]
        assert page.inner_text("#found-count") == "10,000 of 10,000 records"
        page.close()
    print(f"{report.stat().st_size / 1e6:.1f} MB, opened in {[f'{seconds:.2f}' for seconds in took]} s")
    assert min(took) < SECONDS


def test_the_records_are_searched_and_filtered(page: Any) -> None:
    count = page.locator("#found-count")
    page.select_option("#find-stage", label="responses (5,000)")
    assert count.inner_text() == "5,000 of 10,000 records"
    page.select_option("#find-verdict", "-")
    assert count.inner_text() == "2,500 of 10,000 records"
    page.select_option("#find-principle", label="7 candor (3,332)")
    assert count.inner_text() == "1,666 of 10,000 records"
    page.fill("#find-text", "Instruction 1001:")
    wait_for(lambda: page.inner_text("#found-count").startswith("1 of"))
    page.click("#find-clear")
    assert count.inner_text() == "10,000 of 10,000 records"
    assert page.locator("#found li").count() == 40
    page.click("#found-more")
    assert page.locator("#found li").count() == 80


def test_a_click_tells_where_a_response_comes_from(page: Any) -> None:
    page.fill("#find-text", "Instruction 1001:")
    wait_for(lambda: page.inner_text("#found-count").startswith("3 of"))
    page.locator("#found button", has_text="responses").first.click()
    told = page.inner_text("#record-detail")
    parts = ("An answer.", THOUGHT, "7 candor", "Instruction 1001:", "Topic 1001", KIND, "Why?")
    places = [told.index(part) for part in parts]
    assert places == sorted(places), "response, thought, principles; instruction, topic, seed"
    page.locator("#record-detail .origin a").first.click()
    assert page.url.endswith(f"#record={content_hash(['instructions', 1001])}")
    assert "no_response" in page.inner_text("#record-detail .relatives"), "the rejected attempt stands beside it"
    page.go_back()
    assert page.url.endswith(f"#record={content_hash(['responses', 2002])}")


def test_what_a_model_wrote_is_never_run(page: Any) -> None:
    page.fill("#find-text", "onerror")
    wait_for(lambda: not page.inner_text("#found-count").startswith("10,000 of"))
    for button in page.locator("#found button").all()[:6]:
        button.click()
        assert "<img src=x onerror" in page.inner_text("#record-detail")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#records img, #records script").count() == 0
    assert len(page.asked) == 1 and page.said == []


def test_it_reads_on_paper_in_the_dark_and_on_a_phone(browser: Any, report: Path, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme="dark")
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs over the edge"
    colour = "getComputedStyle(document.body)"
    dark = page.evaluate(f"[{colour}.backgroundColor, {colour}.color]")
    page.emulate_media(color_scheme="light")
    light = page.evaluate(f"[{colour}.backgroundColor, {colour}.color]")
    assert dark != light
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(f"{colour}.backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#records") and page.is_visible("#samples") and page.is_visible("#flow svg")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less margins of 1 cm
    assert page.evaluate("[...document.querySelectorAll('table')].every((t) => t.getBoundingClientRect().right < 719)")
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()


def test_every_step_of_use_has_a_shade_of_its_own(page: Any) -> None:
    shades = page.evaluate(
        """[0, 1, 2, 3, 4, 5].map((step) => {
            const square = document.createElement("i");
            square.className = `shade${step}`;
            document.querySelector(".squares").append(square);
            return getComputedStyle(square).backgroundColor;
        })"""
    )
    assert len(set(shades)) == 6, shades


def test_pictures_of_a_run(browser: Any) -> None:
    folder, run = os.environ.get("SELFALIGN_SCREENSHOTS"), os.environ.get("SELFALIGN_REPORT_RUN")
    if not folder or not run:
        pytest.skip("SELFALIGN_SCREENSHOTS=DIR SELFALIGN_REPORT_RUN=RUN make pictures of a run's report")
    report = build_report(Path(run))
    for name, scheme, section in (
        ("report-light", "light", "flow"),
        ("report-dark", "dark", "records"),
        ("report-instructions", "light", "instructions"),
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme=scheme)
        page.goto(report.as_uri())
        page.evaluate(f"document.getElementById('{section}').scrollIntoView({{behavior: 'instant'}})")
        path = Path(folder) / f"{name}.png"
        page.screenshot(path=path)
        page.close()
        assert path.stat().st_size < 200_000
    page = browser.new_page(viewport={"width": 794, "height": 1123})  # A4 at 96 dots an inch
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    page.screenshot(path=Path(folder) / "report-printed.png")
    page.close()
