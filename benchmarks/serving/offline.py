"""The embedded engine without a server: the same questions given to `generate` at once.

The process is kept, so that it can be measured in turn with the servers: a job a line on standard input, its outcome a
line on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.engines.peers import ROOT
from benchmarks.engines.process import MeasurementFailed, environment
from benchmarks.serving.messages import TEMPERATURE, TOP_P, Question
from benchmarks.serving.servers import SPIN, Held


class Offline(Held):
    """The process, with its engine loaded."""

    def __init__(self, model: str, batch_size: int, style: str) -> None:
        command = [sys.executable, "-m", "benchmarks.serving.offline", model, str(batch_size), style]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(SPIN),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        super().__init__(process)
        self._line()

    def measure(self, questions: Sequence[Question], new_tokens: int) -> dict[str, Any]:
        """Answer all of them."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"questions": questions, "new_tokens": new_tokens}) + "\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise MeasurementFailed("the offline engine ended")
        found: dict[str, Any] = json.loads(line)
        return found


def main(model: str, batch_size: str, style: str) -> None:
    """Load, say so, and answer job after job."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no outcome

    def say(outcome: dict[str, Any]) -> None:
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()

    began = time.perf_counter()
    engine, chat_format = load(model, int(batch_size), style)
    say({"load_seconds": round(time.perf_counter() - began, 2)})
    for line in sys.stdin:
        job = json.loads(line)
        say(timed(engine, chat_format, [Question(*one) for one in job["questions"]], job["new_tokens"]))


def load(model: str, batch_size: int, style: Any) -> tuple[Any, Any]:
    """The engine as the server has it, and the chat format."""
    from selfalign.constitution.loading import load_constitution
    from selfalign.engines.embedded.engine import EmbeddedEngine
    from selfalign.engines.embedded.loading import resolve_model
    from selfalign.recipe import EngineOptions

    engine = EmbeddedEngine(resolve_model(model), EngineOptions(batch_size=batch_size))
    return engine, engine.chat_format(load_constitution("dromedary").style(style))


def timed(engine: Any, chat_format: Any, questions: Sequence[Question], new_tokens: int) -> dict[str, Any]:
    """The rate over all answers, with the stop strings that the server sets."""
    from selfalign.chat.server.models import NEXT_TURN
    from selfalign.engines.base import Request, Sampling

    sampling = Sampling(TEMPERATURE, TOP_P, max_tokens=new_tokens, stop=NEXT_TURN)
    began = time.perf_counter()
    requests = [
        Request(str(number), chat_format.render(one.messages), "", sampling, one.seed, chat_format=True)
        for number, one in enumerate(questions)
    ]
    completions = list(engine.generate(requests))
    seconds = time.perf_counter() - began
    tokens = sum(completion.tokens.completion for completion in completions)
    read = sum(completion.tokens.prompt for completion in completions)
    return {
        "users": engine.options.batch_size,
        "requests": len(completions),
        "errors": sum(completion.finish_reason == "refused" for completion in completions),
        "prompt_tokens_mean": round(read / len(completions), 1),
        "tokens": tokens,
        "tokens_mean": round(tokens / len(completions), 1),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 2),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
