"""The chat page in a real browser (Chromium), on a real server with a scripted model, which writes a word a step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign.chat.server.hub import scripted_service
from selfalign.chat.server.service import Service
from selfalign.engines.base import Request
from tests.support.chromium import PATIENCE, chromium, screenshot, served, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BOT = "[data-testid=bot]"  # what Gradio calls an answer's bubble
SEED = re.compile(r"Seed \d+: ")
MARKDOWN = "Knead it **well**.\n\n1. flour\n2. water\n\n```python\nbake()\n```\n"
HOSTILE = """<script>document.title = "hacked"</script>

<img src="nowhere" onerror="document.title = 'hacked'"> <svg onload="document.title = 'hacked'"></svg>

<iframe src="https://elsewhere.example"></iframe> <form action="https://elsewhere.example"><input></form>

![a picture](https://elsewhere.example/pixel.png) [a link](javascript:document.title='hacked')

`<b>code</b>` and

```mermaid
graph TD; A["<img src=x onerror=document.title='hacked'>"]
```

The end."""
DRAWN = "img, iframe, form, input, script, b, object, .mermaid, [onerror], [onload]"
"""What an answer of text and Markdown has none of."""


Seen: list[Request] = []


def script(request: Request) -> str:
    """By what the last message asks for."""
    Seen.append(request)
    if request.prompt.rpartition("### ")[2].startswith("Internal thought"):
        return " this needs 3 (helpful) and 7 (candor).\n"
    asked = request.prompt.rpartition("### User\n")[2].partition("\n")[0]
    if "forever" in asked:
        return "and on " * 2000
    return HOSTILE if "hostile" in asked else f"{MARKDOWN}\nSeed {request.seed}: {asked}"


@pytest.fixture(scope="module")
def service() -> Service:
    return scripted_service(script, pause=0.05)  # 512 tokens take 26 s: time to stop them


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    pytest.importorskip("gradio")
    from selfalign.chat.page.mount import mount_page
    from selfalign.chat.server.app import create_app

    with served(mount_page(create_app(service), service)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page in a browser that nobody used before. It asks no other host, whatever happens on it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    asked: list[str] = []
    opened.on("response", lambda response: asked.append(response.url))  # what the policy blocks has none
    opened.goto(address)
    message_box(opened).wait_for()
    yield opened
    strangers = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    context.close()
    assert strangers == []


def message_box(page: Any) -> Any:
    return page.locator("#message textarea")


def send(page: Any, text: str) -> None:
    message_box(page).fill(text)
    message_box(page).press("Enter")


def answers(page: Any) -> Any:
    return page.locator(f"{BOT}:visible")


def pick(page: Any, label: str, model: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=model, exact=True).click()
    wait_for(lambda: page.get_by_role("option").count() == 0)


def test_an_answer_streams_is_stopped_and_frees_the_model(page: Any, service: Service) -> None:
    send(page, "Go on forever")
    page.get_by_text("and on and on").wait_for()
    before = len(answers(page).first.inner_text())
    wait_for(lambda: len(answers(page).first.inner_text()) > before)
    page.locator("button.stop-button:visible").click()
    wait_for(lambda: not service.scheduler.users)
    assert "and on" in answers(page).first.inner_text()
    send(page, "What is bread?")
    page.get_by_text("What is bread?").nth(1).wait_for()


def test_a_thought_is_folded_a_retry_differs_and_a_reload_forgets_nothing(page: Any, tmp_path: Path) -> None:
    pick(page, "Model", "scripted+principles")
    send(page, "What is bread?")
    fold = page.get_by_text("Internal thought · 3 ")
    fold.wait_for()
    assert "· 7 " in fold.inner_text()
    thought = page.get_by_text("this needs 3 (helpful)")
    thought.wait_for(state="hidden")
    fold.click()
    thought.wait_for(state="visible")
    assert page.locator(f"{BOT} strong").first.inner_text() == "well"
    assert page.locator(f"{BOT} li").all_inner_texts() == ["flour", "water"]
    first = page.get_by_text(SEED).first.inner_text()
    screenshot(page, "answer", tmp_path)

    page.get_by_label("Retry").first.click()
    wait_for(lambda: page.get_by_text(SEED).count() == 1 and page.get_by_text(SEED).inner_text() != first)
    kept = page.locator("#history").get_by_text("What is bread?")
    kept.wait_for()
    page.reload()
    kept.wait_for()
    kept.click()
    page.get_by_text(SEED).wait_for()


def test_two_models_answer_one_message_side_by_side(page: Any, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Compare").click()
    pick(page, "Left model", "scripted")
    pick(page, "Right model", "scripted+principles")
    box = page.locator("#message-to-both textarea")
    box.fill("What is bread?")
    box.press("Enter")
    page.get_by_text(": What is bread?").nth(1).wait_for()
    left, right = page.locator(".side").all()
    assert "Internal thought" not in left.inner_text()
    assert "Internal thought · 3 " in right.inner_text()
    assert abs(left.bounding_box()["y"] - right.bounding_box()["y"]) < 5
    screenshot(page, "compare", tmp_path)
    page.get_by_role("button", name="Clear", exact=True).last.click()
    wait_for(lambda: "What is bread?" not in page.locator(".side").first.inner_text())


def test_html_in_an_answer_is_text_and_nothing_of_it_runs(page: Any) -> None:
    send(page, "Be hostile")
    page.get_by_text("The end.").wait_for()
    wait_for(lambda: message_box(page).is_enabled())
    answer = answers(page).first
    text = answer.inner_text()
    for line in HOSTILE.split("\n")[:5:2]:
        assert line in text
    assert "!a picture a link" in text
    assert "<b>code</b> and" in text
    assert answer.locator(DRAWN).count() == 0
    assert page.locator(f'{BOT} a[href^="javascript"]').count() == 0
    assert page.title() == "selfalign"
    send(page, "What did you say?")
    page.get_by_text(": What did you say?").wait_for()
    assert HOSTILE in Seen[-1].prompt  # as it was written, not as it was shown


def test_a_message_that_is_too_long_is_told(page: Any) -> None:
    send(page, "word " * 5000)
    told = page.locator(".toast-body")
    told.wait_for()
    assert "4096" in told.inner_text()


def test_the_page_says_what_was_left_out_of_a_long_conversation(page: Any) -> None:
    for number in (1, 2, 3):
        send(page, f"Message {number}: " + "word " * 1300)
        page.get_by_text(f": Message {number}:").wait_for()
        wait_for(lambda: message_box(page).is_enabled())
    fold = page.get_by_text("The oldest 2 messages were left out")
    fold.wait_for()
    fold.click()
    page.get_by_text("longer than what this model can read").wait_for(state="visible")


def test_an_answer_that_was_cut_says_so_and_the_message_box_is_as_before(page: Any) -> None:
    before = message_box(page).get_attribute("placeholder")
    page.get_by_text("System text and sampling").click()
    longest = page.locator("#settings").get_by_label("Longest answer").and_(page.locator("input[type=number]"))
    longest.fill("16")
    longest.press("Tab")
    send(page, "Go on forever")
    page.get_by_text("The answer reached its length limit").wait_for()
    wait_for(lambda: message_box(page).get_attribute("placeholder") == before)
    assert message_box(page).is_enabled()
    wait_for(lambda: message_box(page).evaluate("box => box === document.activeElement"))


def test_a_comparison_can_be_stopped_and_goes_on(page: Any, service: Service) -> None:
    page.get_by_role("tab", name="Compare").click()
    box = page.locator("#message-to-both")
    stop = box.locator("button.stop-button")
    assert stop.count() == 0
    box.locator("textarea").fill("Go on forever")
    box.locator("textarea").press("Enter")
    stop.wait_for()
    assert box.locator("button.submit-button").count() == 0
    page.get_by_text("and on and on").first.wait_for()
    stop.click()
    wait_for(lambda: not service.scheduler.users)
    box.locator("button.submit-button").wait_for()
    assert stop.count() == 0
    box.locator("textarea").fill("What is bread?")
    box.locator("textarea").press("Enter")
    page.get_by_text(": What is bread?").nth(1).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_everything_in_sight_and_the_keyboard_is_enough(page: Any, scheme: str, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 420, "height": 860})
    page.emulate_media(color_scheme=scheme)
    page.reload()
    message_box(page).wait_for()
    wait_for(lambda: message_box(page).evaluate("box => box === document.activeElement"))
    page.keyboard.type("What is bread?")
    page.keyboard.press("Enter")
    page.get_by_text(": What is bread?").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    place = message_box(page).bounding_box()
    assert place["y"] + place["height"] <= 860
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(shade[:3]) < 200) == (scheme == "dark")
    screenshot(page, f"phone-{scheme}", tmp_path)
