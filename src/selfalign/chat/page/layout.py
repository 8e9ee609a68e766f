"""The chat page: one conversation with a model of the server, or one message to two of them side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from selfalign.chat.page.answering import Choices, answer
from selfalign.chat.page.bubbles import Bubble
from selfalign.chat.page.compare import compare_tab
from selfalign.chat.page.pieces import QUIET, Inputs, chatbot, focus_on, message_box, model_picker
from selfalign.chat.page.texts import texts

if TYPE_CHECKING:
    from gradio import Blocks

    from selfalign.chat.server.service import Service


LONGEST = 2048
"""Tokens that an answer may be given at most on the page; about 1,500 words."""


def layout(service: Service, max_tokens: int = LONGEST) -> Blocks:
    """The page's components and what they do. Nothing of it asks another host, and nobody is told of its use."""
    import gradio

    page: Blocks
    with gradio.Blocks(title=texts().title, analytics_enabled=False, fill_height=True, fill_width=True) as page:
        settings = setting_inputs(min(LONGEST, max_tokens, service.batcher.context_length))
        with gradio.Tabs(elem_id="modes"):
            with gradio.Tab("Chat", id="chat", scale=1):
                chat_tab(service, settings)
            with gradio.Tab("Compare", id="compare", scale=1):
                compare_tab(service, settings)
    return page


def setting_inputs(most: int) -> Inputs:
    """What `Choices` holds, in its order, folded away; answers of `most` tokens at most."""
    import gradio

    with gradio.Accordion("System text and sampling", open=False, elem_id="settings"):
        system = gradio.Textbox("", label="System text", info="empty: the model's own style", lines=2)
        with gradio.Row():
            return [
                system,
                gradio.Slider(0, 2, 0.7, step=0.05, label="Temperature", info="0 is greedy"),
                gradio.Slider(0.05, 1, 0.95, step=0.05, label="Top-p", info="share of the likeliest tokens"),
                gradio.Slider(1, most, min(512, most), step=1, label="Longest answer", info="in tokens"),
                gradio.Number(-1, label="Seed", info="-1: another each time", precision=0),
            ]


def chat_tab(service: Service, settings: Inputs) -> None:
    """A conversation, with the ones before it."""
    import gradio

    async def respond(message: str, history: list[Bubble], model: str, *values: Any) -> AsyncIterator[list[Bubble]]:
        async for bubbles in answer(service, model, history, message, Choices(*values)):
            yield bubbles

    model = model_picker(service, "Model", service.default_model)
    chat = gradio.ChatInterface(
        respond,
        chatbot=chatbot("Conversation", placeholder=texts().placeholder, editable="user", css_class="conversation"),
        textbox=message_box(texts().message, "message", autofocus=True),
        additional_inputs=[model, *settings],
        examples=[[example] for example in texts().examples],
        editable=True,
        save_history=True,
        flagging_mode="never",
        analytics_enabled=False,
        concurrency_limit=None,
        api_visibility="private",
    )
    # Kept in the browser alone, under a name that holds when the server starts again; the "secret" goes to the browser
    # too and protects nothing, but another one would make what is kept unreadable.
    chat.saved_conversations.storage_key = "selfalign_conversations"
    chat.saved_conversations.secret = "selfalign"
    chat.new_chat_button.parent.elem_id = "history"  # page.css puts it under the conversation on a narrow window
    # Gradio empties the placeholder with the box and does not bring it back. What is kept changes when an answer ends.
    ended = chat.saved_conversations.change
    ended(lambda: gradio.update(placeholder=texts().message), None, chat.textbox, **QUIET)
    ended(None, js=focus_on("message"), **QUIET)
