"""What the chat page shows and what a model reads of it; test_page_browser.py has the page itself in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from selfalign.chat.page.answering import Choices, answer
from selfalign.chat.page.bubbles import Bubble, Shown, conversation, text_of
from selfalign.chat.page.texts import texts
from selfalign.chat.server.hub import scripted_service
from selfalign.chat.server.models import Cited
from selfalign.chat.server.service import End, Piece, Service, Start
from selfalign.engines.base import Request
from selfalign.records import Tokens
from tests.support.chromium import chromium

PRINCIPLED = "scripted+principles"
CHOICES = Choices("", 0.7, 0.95, 64, 1)
Seen: list[Request] = []


def script(request: Request) -> str:
    """A thought that cites two principles, or an answer of four words."""
    Seen.append(request)
    if request.prompt.rpartition("### ")[2].startswith("Internal thought"):
        return " this needs 3 (helpful) and 7 (candor).\n"
    return "Bread is baked dough."


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    opened = scripted_service(script, context_length=2500)
    opened.start()
    yield opened
    opened.close()


def ask(service: Service, message: str, bubbles: list[Bubble] | None = None, **changed: Any) -> list[list[Bubble]]:
    """Everything that the page is given, in order."""
    model = changed.pop("model", "scripted")

    async def frames() -> list[list[Bubble]]:
        return [frame async for frame in answer(service, model, bubbles or [], message, CHOICES._replace(**changed))]

    return asyncio.run(frames())


def user(text: str) -> Bubble:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def assistant(text: str, title: str = "") -> Bubble:
    return {"role": "assistant", "content": [{"type": "text", "text": text}], "metadata": {"title": title or None}}


def test_an_answer_is_one_bubble(service: Service) -> None:
    (bubble,) = ask(service, "What is bread?")[-1]
    assert bubble == {"role": "assistant", "content": [{"type": "text", "text": "Bread is baked dough."}]}


def test_a_thought_is_folded_under_the_principles_that_it_cites(service: Service) -> None:
    thought, said = ask(service, "What is bread?", model=PRINCIPLED)[-1]
    title, status = thought["metadata"]["title"], thought["metadata"]["status"]
    assert status == "done"
    assert title.startswith("Internal thought · 3 ")
    assert " · 7 " in title
    assert text_of(thought["content"]).endswith("this needs 3 (helpful) and 7 (candor).")
    assert text_of(said["content"]) == "Bread is baked dough."


def test_a_thought_is_open_while_it_is_written_and_folded_when_the_answer_begins() -> None:
    shown = Shown()
    shown.take(Start(0))
    shown.take(Piece(thought="Well, 3 "))
    assert [bubble["metadata"]["status"] for bubble in shown.bubbles()] == ["pending"]
    shown.take(Piece(text="Bread"))
    assert shown.bubbles()[0]["metadata"] == {"title": "Internal thought", "status": "done"}
    shown.take(End("length", "Bread is", "Well, 3 (helpful)", (Cited(3, "helpful"),), Tokens(1, 2)))
    titles = [bubble.get("metadata", {}).get("title") for bubble in shown.bubbles()]
    assert titles == ["Internal thought · 3 helpful", None, "The answer reached its length limit"]


def test_a_thought_that_a_model_was_trained_to_write_is_folded_too() -> None:
    shown = Shown(text="<think>\nThis needs 7 (candor)")
    assert [bubble["metadata"]["status"] for bubble in shown.bubbles()] == ["pending"]
    shown.text += ".\n</think>\n\nI do not know."
    thought, said = shown.bubbles()
    assert (text_of(thought["content"]), text_of(said["content"])) == ("This needs 7 (candor).", "I do not know.")


def test_turns_that_were_left_out_are_told(service: Service) -> None:
    long = [bubble for i in range(40) for bubble in (user(f"{i} " + "word " * 60), assistant("yes " * 60))]
    first = ask(service, "What is bread?", long)[-1][0]
    assert first["metadata"]["title"].startswith("The oldest ")
    assert first["metadata"]["title"].endswith(" messages were left out")


def test_only_what_was_said_goes_to_the_model(service: Service) -> None:
    bubbles = [user("Hello"), assistant("a thought", "Internal thought · 3 helpful"), assistant("Hi.")]
    Seen.clear()
    ask(service, "What is bread?", bubbles, system="Answer in rhyme.")
    prompt = Seen[-1].prompt
    assert "Answer in rhyme." in prompt
    assert "Hi." in prompt
    assert "a thought" not in prompt


def test_html_of_a_model_is_text_on_the_page_and_goes_back_as_it_was_written() -> None:
    said, thought = "Use <b>bold</b>, or `<i>`:\n\n    indented <u>\n", "7 (candor) <script>"
    shown = Shown(thought=thought, text=said).bubbles()
    assert text_of(shown[0]["content"]) == "7 (candor) &#60;script>"
    assert text_of(shown[1]["content"]) == "Use &#60;b>bold&#60;/b>, or `<i>`:\n\n    indented &#60;u>\n"
    asked = "And <b>?"
    messages = conversation([user("Hello"), *shown, user(asked)], "")
    assert [message["content"] for message in messages] == ["Hello", said, asked]


def test_a_question_that_was_stopped_before_its_answer_is_replaced_by_the_next() -> None:
    bubbles = [user("Hello"), assistant("Hi."), user("stopped"), assistant(""), user("What is bread?")]
    assert [message["content"] for message in conversation(bubbles, " ")] == ["Hello", "Hi.", "What is bread?"]


def test_what_is_no_text_is_nothing_to_a_model() -> None:
    assert text_of([{"type": "file", "file": {"path": "/etc/passwd"}}, {"type": "text", "text": "Hi"}]) == "Hi"
    assert text_of({"path": "/etc/passwd"}) == ""


def test_where_there_is_no_browser_the_test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium, and pip install playwright"), chromium():
        pass


def test_another_seed_each_time_unless_one_is_named() -> None:
    assert CHOICES.seed_or_another() == 1
    assert len({CHOICES._replace(seed=None).seed_or_another() for _ in range(8)}) > 1


def test_the_examples_are_questions_of_one_line() -> None:
    assert len(texts().examples) >= 4
    assert all(example and "\n" not in example for example in texts().examples)
