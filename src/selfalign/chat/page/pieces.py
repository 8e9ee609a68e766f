"""The pieces that both tabs of the page are made of, on Gradio's components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    from gradio import Chatbot, Dropdown

    from selfalign.chat.server.service import Service

HEIGHT = "max(260px, calc(100dvh - 310px))"
"""Of a conversation: what the window leaves beside the pickers and the message box, which stay in sight."""

QUIET: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
"""Of an event that only moves things on the page."""

Inputs = list[Any]
"""Gradio's components whose values a function gets."""


def model_picker(service: Service, label: str, name: str) -> Dropdown:
    """The models of the server."""
    import gradio

    names = [model.name for model in service.models]
    if not names:
        raise UserError("the server has no model", "selfalign serve MODEL", exit_code=1)
    return gradio.Dropdown(names, value=name, label=label, interactive=True, filterable=False, elem_classes=["picker"])


def chatbot(label: str, placeholder: str, editable: Any, css_class: str) -> Chatbot:
    """Where bubbles stand: Markdown, with scripts, handlers and script links taken out of what HTML there is.

    No formulas: Gradio finds them before it looks for code, so that `$$` could turn code into HTML.
    """
    import gradio

    return gradio.Chatbot(
        label=label,
        show_label=False,
        placeholder=placeholder or None,
        editable=editable,
        height=HEIGHT,
        layout="bubble",
        sanitize_html=True,
        allow_tags=False,
        latex_delimiters=[],
        buttons=["copy", "copy_all"],
        feedback_options=None,
        elem_classes=[css_class],
        render=False,
    )


def message_box(words: str, elem_id: str, autofocus: bool) -> Any:
    """Where a message is typed."""
    import gradio

    return gradio.Textbox(
        placeholder=words,
        show_label=False,
        label=words,
        lines=1,
        max_lines=8,
        max_length=100_000,
        submit_btn=True,
        stop_btn=True,
        autofocus=autofocus,
        html_attributes=gradio.InputHTMLAttributes(enterkeyhint="send"),
        elem_id=elem_id,
        scale=7,
        render=False,
    )


def focus_on(elem_id: str) -> str:
    """JavaScript that puts the cursor back into a message box, unless it stands elsewhere or a finger would do that.

    A box that is closed for the time of an answer loses it; on a phone the keyboard would cover the answer.
    """
    free = "document.activeElement === document.body && !matchMedia('(pointer: coarse)').matches"
    return f"() => {{ if ({free}) document.querySelector('#{elem_id} textarea')?.focus() }}"
