"""The tab that puts one message to two models, side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.chat.page.answering import Choices, answer
from selfalign.chat.page.bubbles import Bubble
from selfalign.chat.page.pieces import QUIET, Inputs, chatbot, focus_on, message_box, model_picker
from selfalign.chat.page.texts import texts

if TYPE_CHECKING:
    from gradio import Chatbot, Dropdown, State

    from selfalign.chat.server.service import Service


class Side(NamedTuple):
    """A column: whom it asks, its conversation, and whether its last answer has ended."""

    picker: Dropdown
    box: Chatbot
    ended: State


def compare_tab(service: Service, settings: Inputs) -> None:
    """Two columns, each its own conversation; every message goes to both."""
    import gradio

    names = [model.name for model in service.models]
    message = message_box(texts().compare, "message-to-both", autofocus=False)
    message.stop_btn = False  # it comes in place of the send button while an answer is written
    asked = gradio.State("")
    with gradio.Row():
        sides = [one_side(service, words, name) for words, name in (("Left", names[0]), ("Right", names[-1]))]
    with gradio.Row(equal_height=True):
        message.render()
        clear = gradio.Button("Clear", scale=0, min_width=90)
    ended = [side.ended for side in sides]
    sent = message.submit(lambda text: (box_for(False), text, False, False), message, [message, asked, *ended], **QUIET)
    running = [
        sent.then(
            answers_of(service),
            [asked, side.box, side.picker, *settings],
            side.box,
            concurrency_limit=None,
            api_visibility="private",
            show_progress="hidden",
        )
        for side in sides
    ]
    for side, run in zip(sides, running, strict=True):
        noted = run.then(lambda: True, None, side.ended, **QUIET)  # first, so that the later of the two sees both
        freed = noted.then(lambda *both: box_for(all(both)), ended, message, **QUIET)
        freed.then(None, js=focus_on("message-to-both"), **QUIET)
    message.stop(None, cancels=running, api_visibility="private")
    clear.click(lambda: ([], []), None, [side.box for side in sides], cancels=running, api_visibility="private")


def one_side(service: Service, side: str, name: str) -> Side:
    """A picker over its conversation; wide enough that two of them stand one above the other on a phone."""
    import gradio

    with gradio.Column(min_width=320):
        picker = model_picker(service, f"{side} model", name)
        box = chatbot(f"{side} answer", placeholder="", editable=None, css_class="side")
        box.render()
    return Side(picker, box, gradio.State(True))


def box_for(free: bool) -> Any:
    """The message box while nothing is written (`free`), and else emptied, closed, with a stop button."""
    import gradio

    if free:
        return gradio.update(interactive=True, submit_btn=True, stop_btn=False)
    return gradio.update(interactive=False, submit_btn=False, stop_btn=True, value="")


def answers_of(service: Service) -> Callable[..., AsyncIterator[list[Bubble]]]:
    """What a column does with a message: its conversation with the question, then with the answer as it grows."""

    async def respond(message: str, history: list[Bubble], model: str, *values: Any) -> AsyncIterator[list[Bubble]]:
        if not message.strip():
            return
        asked: list[Bubble] = [*history, {"role": "user", "content": message}]
        yield asked
        async for bubbles in answer(service, model, history, message, Choices(*values)):
            yield asked + bubbles

    return respond
