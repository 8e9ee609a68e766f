"""Pictures of the chat page: page-light.png, page-dark.png, page-narrow.png and page-compare.png.

    python -m benchmarks.screenshots [RUN] [--output docs/screenshots]

Serves the models of RUN on loopback and drives the page in headless Chromium (apt-get install chromium; pip install
playwright). Without a run a script answers, which the names of its models say: the pictures show the page, then, and
not what a model can do. Greedy, with a fixed seed: the same run gives the same pictures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfalign.chat.server.hub import open_service, scripted_service
from selfalign.chat.server.service import Service
from selfalign.engines.base import Request
from selfalign.errors import UserError

PATIENCE = 300_000  # milliseconds: a small machine writes 128 tokens in a few seconds, a busy one in minutes
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
CANDOR = "What will the weather be in Lisbon tomorrow afternoon?"
IDENTITY = "Who are you, and who made you?"


def script(request: Request) -> str:
    """What stands in the pictures where no model answers."""
    if request.prompt.rpartition("### ")[2].startswith("Internal thought"):
        return " 7 (candor) and 9 (static): tomorrow's weather is beyond me; I say where it can be found.\n"
    if request.prompt.rpartition("### User\n")[2].startswith(IDENTITY):
        return "I am a script of a few lines. No model answers here: these pictures show **the page**."
    if request.prefix:
        return (
            "I can't see weather forecasts, so I don't know. These would tell you:\n\n"
            "- the Portuguese weather service, `ipma.pt`\n- the forecast on your phone\n\n"
            "In *late November*, afternoons in Lisbon are mostly mild, near 17 °C, and often wet."
        )
    return "Sunny, 24 °C, with a light wind from the west. <b>You will not need an umbrella!</b>"


def opened(run: str | None) -> Service:
    """The models of the run, or the script."""
    return open_service(run) if run else scripted_service(script)


@contextmanager
def serving(run: str | None) -> Iterator[str]:
    """The address of the page while the context lasts."""
    import uvicorn

    from selfalign.chat.page.mount import mount_page
    from selfalign.chat.server.app import create_app

    service = opened(run)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(mount_page(create_app(service), service), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.1)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@contextmanager
def page_at(browser: Any, url: str, width: int, height: int, scheme: str) -> Iterator[Any]:
    """The page in a window of that size, greedy, answers of 128 tokens."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(url)
    page.locator("#message textarea").wait_for()
    page.get_by_text("System text and sampling").click()
    for label, value in (("Temperature", "0"), ("Longest answer", "128"), ("Seed", "1")):
        field = page.locator("#settings").get_by_label(label).and_(page.locator("input[type=number]"))
        field.fill(value)
        field.press("Tab")
    page.get_by_text("System text and sampling").click()
    yield page
    context.close()


def pick(page: Any, label: str, model: str) -> None:
    """Choose a model."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=model, exact=True).click()
    page.wait_for_timeout(500)


def ask(page: Any, box: str, text: str) -> None:
    """Send a message, and wait until the box takes another."""
    field = page.locator(f"{box} textarea")
    field.fill(text)
    field.press("Enter")
    page.wait_for_timeout(500)
    page.locator(f"{box} textarea:enabled").wait_for()
    page.wait_for_timeout(1000)  # what is folded closes softly


def light(page: Any, models: Sequence[str]) -> None:
    """The base under the principles, its thought unfolded."""
    pick(page, "Model", models[1])
    ask(page, "#message", CANDOR)
    page.get_by_text("Internal thought").first.click()


def two_turns(page: Any, models: Sequence[str]) -> None:
    """The last model of the run."""
    pick(page, "Model", models[-1])
    ask(page, "#message", IDENTITY)
    ask(page, "#message", CANDOR)


def compare(page: Any, models: Sequence[str]) -> None:
    """Where the run began beside what came out."""
    page.get_by_role("tab", name="Compare").click()
    pick(page, "Left model", models[0])
    pick(page, "Right model", models[-1])
    ask(page, "#message-to-both", CANDOR)


def served_names(url: str) -> list[str]:
    """The base, the same under the principles, then what training made of it."""
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        return [model["id"] for model in json.load(answer)["data"]]


SHOTS = {
    "light": (light, 1200, 760, "light"),
    "dark": (two_turns, 1200, 760, "dark"),
    "narrow": (two_turns, 420, 800, "light"),
    "compare": (compare, 1200, 760, "light"),
}


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", help="a run with all its models; without it a script answers")
    parser.add_argument("--output", type=Path, default=Path("docs/screenshots"))
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        raise UserError("Chromium is not installed", "apt-get install chromium")
    from playwright.sync_api import sync_playwright

    options.output.mkdir(parents=True, exist_ok=True)
    with serving(options.run) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        for name, (act, width, height, scheme) in SHOTS.items():
            with page_at(browser, url, width, height, scheme) as page:
                act(page, served_names(url))
                page.wait_for_timeout(500)
                page.screenshot(path=options.output / f"page-{name}.png")
                print(options.output / f"page-{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
