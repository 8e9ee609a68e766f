"""What a terminal chat talks to beside one model: the models of a run, loaded here or behind a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from selfalign.chat.local import Local
from selfalign.chat.server.hub import scripted_service
from selfalign.chat.session import ChatSession
from selfalign.chat.source import CUT, Said
from selfalign.engines.base import Request, Sampling
from selfalign.errors import UserError

PRINCIPLED = "scripted+principles"


def script(request: Request) -> str:
    if request.prompt.rpartition("### ")[2].startswith("Internal thought"):
        return " this needs 7 (candor).\n"
    asked = request.prompt.rpartition("### User\n")[2].partition("\n")[0]
    return "on and on " * 500 if asked == "forever" else f"You asked: {asked} (seed {request.seed})"


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    source = Local(scripted_service(script, context_length=2500, pause=0.001))
    yield source
    source.close()


def joined(pieces: list[Said], part: str) -> str:
    return "".join(piece.text for piece in pieces if piece.part == part)


def test_the_models_of_a_service_answer_in_a_terminal(local: Local) -> None:
    session = ChatSession(local, Sampling(max_tokens=64), 0)
    assert session.model == "scripted"
    assert joined(list(session.ask("Hello")), "answer").startswith("You asked: Hello")
    session.use(PRINCIPLED)
    pieces = list(session.ask("And now?"))
    assert joined(pieces, "thought").endswith("this needs 7 (candor).")
    assert session.messages[-1]["content"] == joined(pieces, "answer")


def test_an_answer_depends_on_the_seed_and_on_all_that_was_said(local: Local) -> None:
    def answer(seed: int, text: str = "Hello") -> str:
        return joined(list(ChatSession(local, Sampling(max_tokens=64), seed).ask(text)), "answer")

    assert answer(0) == answer(0)
    assert len({answer(0), answer(1), answer(0, "Hullo")}) == 3


def test_a_closed_answer_frees_the_model(local: Local) -> None:
    session = ChatSession(local, Sampling(max_tokens=2000), 0)
    answer = session.ask("forever")
    assert next(answer).text.startswith("on")
    answer.close()
    assert not local.service.scheduler.users
    assert [message["role"] for message in session.messages] == ["user", "assistant"]


def test_what_the_model_cannot_read_any_more_is_told(local: Local) -> None:
    session = ChatSession(local, Sampling(max_tokens=64), 0)
    session.messages = [
        message
        for i in range(30)
        for message in (
            {"role": "user", "content": f"{i} " + "word " * 60},
            {"role": "assistant", "content": "yes " * 60},
        )
    ]  # type: ignore[misc]
    assert "oldest" in joined(list(session.ask("Hello")), "notice")
    with pytest.raises(UserError):
        list(session.ask("word " * 3000))


def test_an_answer_that_was_cut_is_told(local: Local) -> None:
    *_, last = ChatSession(local, Sampling(max_tokens=3), 0).ask("Hello")
    assert last == CUT


@pytest.mark.slow
def test_a_server_answers_in_a_terminal_with_thought_and_all() -> None:
    pytest.importorskip("openai")
    from selfalign.chat.remote import Remote
    from selfalign.chat.server.app import create_app
    from tests.support.chromium import served

    with served(create_app(scripted_service(script))) as url:
        source = Remote(url)
        session = ChatSession(source, Sampling(max_tokens=64), 0)
        session.use(PRINCIPLED)
        pieces = list(session.ask("Hello"))
        *_, last = ChatSession(source, Sampling(max_tokens=3), 0).ask("Hello")
        source.close()
    assert last == CUT
    assert joined(pieces, "thought").endswith("this needs 7 (candor).")
    assert joined(pieces, "answer").startswith("You asked: Hello")
