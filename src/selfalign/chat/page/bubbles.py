"""Between what Gradio shows and what a model reads: bubbles on the page, messages of a conversation.

An answer may take several bubbles: a folded notice that turns were left out, the folded internal thought with the
principles that it cites, the answer. Only the last is part of the conversation; the others carry a `title`.

What a model wrote stands on the page as text and Markdown, never as HTML (inert.py), and goes back to a model as it
was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfalign.chat.page.inert import as_written, inert
from selfalign.constitution.kept_thought import split_thought
from selfalign.records import Message

if TYPE_CHECKING:
    from selfalign.chat.server.models import Cited
    from selfalign.chat.server.service import Event

Bubble = dict[str, Any]
"""Gradio's message: `role`, `content`, and `metadata` with a `title` where it can be folded."""


@dataclass
class Shown:
    """One answer as it grows. `principles` are known when it ends."""

    dropped_turns: int = 0
    thought: str = ""
    principles: tuple[Cited, ...] = ()
    text: str = ""
    finish_reason: str = ""

    def take(self, event: Event) -> None:
        """Grow by what the service said next."""
        from selfalign.chat.server.service import End, Start

        if isinstance(event, Start):
            self.dropped_turns = event.dropped_turns
        elif isinstance(event, End):
            self.thought, self.text = event.thought, event.text
            self.principles, self.finish_reason = event.principles, event.finish_reason
        else:
            self.thought += event.thought
            self.text += event.text

    def bubbles(self) -> list[Bubble]:
        """In the order in which they came. A model that was trained to think writes its thought into the text."""
        thought, text = (self.thought, self.text) if self.thought else split_thought(self.text)
        shown = [notice(self.dropped_turns)] if self.dropped_turns else []
        if thought:
            shown.append(folded(thought_title(self.principles), thought, open=not text))
        if text or not shown or self.finish_reason:
            shown.append({"role": "assistant", "content": parts(text)})
        if self.finish_reason == "length":
            shown.append(folded("The answer reached its length limit", CUT, open=False))
        return shown


CUT = "Raise “Longest answer” above, or ask the model to go on."


def notice(dropped_turns: int) -> Bubble:
    """Says that the conversation outgrew what the model reads."""
    turns = "1 message was" if dropped_turns == 1 else f"{dropped_turns} messages were"
    why = "The conversation is longer than what this model can read, so its beginning was left out for this answer."
    return folded(f"The oldest {turns} left out", why, open=False)


def thought_title(principles: Sequence[Cited]) -> str:
    """The principles that the thought cites stand on the fold, by number and name."""
    return " · ".join(["Internal thought", *(f"{cited.number} {cited.name}" for cited in principles)])


def folded(title: str, text: str, open: bool) -> Bubble:
    """A bubble under a title."""
    status = "pending" if open else "done"
    return {"role": "assistant", "content": parts(text), "metadata": {"title": title, "status": status}}


def parts(text: str) -> list[dict[str, str]]:
    """The content of a bubble. As a plain string Gradio would take the indentation off its lines."""
    return [{"type": "text", "text": inert(text)}]


def conversation(bubbles: Sequence[Bubble], system: str) -> list[Message]:
    """The messages that `bubbles` stand for, under a system text of the user's or, where it is blank, the style.

    An answer that was stopped before it said anything leaves its question alone: both are left out, since a
    conversation alternates.
    """
    messages: list[Message] = []
    for bubble in bubbles:
        text = text_of(bubble["content"])
        if (bubble.get("metadata") or {}).get("title") or not text.strip():
            continue
        if messages and messages[-1]["role"] == bubble["role"]:
            messages.pop()
        said = as_written(text) if bubble["role"] == "assistant" else text
        messages.append({"role": bubble["role"], "content": said})
    head: list[Message] = [{"role": "system", "content": system.strip()}] if system.strip() else []
    return head + messages


def text_of(content: Any) -> str:
    """The text of a bubble, which Gradio holds in parts; what is no text is nothing to a model."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))
