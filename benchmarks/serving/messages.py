"""What the users say: ordinary questions that want a long answer, each asked once, with a seed of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

FRAMES = (
    "Explain how {} works, step by step and in plain words.",
    "Write a short story for children in which {} matters.",
    "I have to give a talk about {} tomorrow. What should I say?",
    "What are the most common mistakes people make with {}, and how can I avoid them?",
    "Tell me about the history of {}, from the beginning until today.",
    "Give me a list of ten useful facts about {}, with a sentence on each.",
    "What would change in daily life without {}? Think of several examples.",
    "Compare {} in a big city and in a small village.",
)
TOPICS = (
    "a bicycle",
    "bread",
    "public transport",
    "the post office",
    "rain",
    "electric light",
    "a library",
    "keeping bees",
    "drinking water",
    "the telephone",
    "growing potatoes",
    "a wooden bridge",
    "sleep",
    "paper",
    "a market",
    "learning to swim",
)
"""128 questions in all; after them they come again under other seeds."""

TEMPERATURE = 0.7
TOP_P = 1.0


class Question(NamedTuple):
    """What one request asks."""

    text: str
    seed: int

    @property
    def messages(self) -> list[dict[str, str]]:
        """As a chat request has it."""
        return [{"role": "user", "content": self.text}]

    def body(self, model: str, new_tokens: int, **more: Any) -> dict[str, Any]:
        """The request of an OpenAI client that streams."""
        return {
            "model": model,
            "messages": self.messages,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "seed": self.seed,
            "max_tokens": new_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }


def question(number: int) -> Question:
    """Neighbours differ in topic, so that those asked at once have no beginning in common but the chat format's."""
    topic = TOPICS[number % len(TOPICS)]
    frame = FRAMES[(number // len(TOPICS) + number) % len(FRAMES)]
    return Question(frame.format(topic), 1000 + number)


def questions(users: int, rounds: int, first: int = 0) -> list[list[Question]]:
    """Those of each user in turn; `first` is the number of the very first, so that repeats ask others."""
    return [[question(first + turn * users + user) for turn in range(rounds)] for user in range(users)]
