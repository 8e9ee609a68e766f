"""A conversation in a terminal, or through a pipe."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from selfalign.chat.session import ChatSession
from selfalign.errors import UserError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

HELP = """\
/reset        forget the conversation
/save PATH    write it as JSON
/help         show this
/exit         leave (Ctrl-D too); Ctrl-C stops an answer"""
LEAVE_HINT = "Ctrl-D or /exit leaves"
PIPE_CLOSED = 128 + 13  # the exit status of a program that SIGPIPE ended


def chat(session: ChatSession, *, model_name: str, input: TextIO | None = None, output: TextIO | None = None) -> int:
    """Talk to the session's model until the input ends; returns the exit status.

    From a terminal, lines are edited and `/` commands work. From anywhere else each non-empty line is one turn of the
    conversation, nothing but answers goes to `output`, and the status is that of the last turn that failed, or 0.
    """
    lines, answers = tolerant(input or sys.stdin), tolerant(output or sys.stdout)
    try:
        if lines.isatty():
            return converse(session, model_name, answers)
        return answer_lines(session, lines, answers)
    except BrokenPipeError:
        silence(answers)
        return PIPE_CLOSED


def answer_lines(session: ChatSession, lines: TextIO, output: TextIO) -> int:
    """Answer every non-empty line. A turn that fails is told on stderr, and the next one follows."""
    status = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            write_answer(session.ask(line.strip()), output)
        except UserError as fault:
            tell(one_line(fault))
            status = fault.exit_code
    return status


def converse(session: ChatSession, model_name: str, output: TextIO) -> int:
    """Prompt, answer, repeat. Ctrl-C never leaves."""
    tell(f"Chatting with {model_name}. /help lists the commands; {LEAVE_HINT}.")
    prompt = line_editor()
    while True:
        try:
            line = read_line(prompt)
            if line is None or line.split()[:1] == ["/exit"]:
                return 0
            if line.startswith("/"):
                obey(session, line)
            elif line:
                write_answer(session.ask(line), output)
        except UserError as fault:
            tell(one_line(fault))
        except KeyboardInterrupt:
            output.write("\n")
            output.flush()
            tell("[stopped]")


def line_editor() -> PromptSession[str]:
    """A prompt with history, drawn on stderr where stdout is no terminal, so that answers can be piped away."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.output import create_output

    return PromptSession(history=InMemoryHistory(), output=create_output(always_prefer_tty=True))


def read_line(prompt: PromptSession[str]) -> str | None:
    """The next line without space around it, or None at the end of input. Ctrl-C clears the line.

    prompt_toolkit gives bytes that are no UTF-8 as lone surrogates, which neither a tokenizer nor a file takes.
    """
    while True:
        try:
            return prompt.prompt("> ").encode(errors="replace").decode().strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if not prompt.default_buffer.text:
                tell(LEAVE_HINT)


def obey(session: ChatSession, line: str) -> None:
    """Do what a `/` command says."""
    name, _, argument = line.partition(" ")
    commands: dict[str, Callable[[], None]] = {
        "/reset": lambda: reset(session),
        "/save": lambda: save(session, argument.strip()),
        "/help": lambda: tell(HELP),
    }
    unknown = f"no command {name}: there are /reset, /save PATH, /help and /exit"
    commands.get(name, lambda: tell(unknown))()


def reset(session: ChatSession) -> None:
    """`/reset`."""
    session.reset()
    tell("the conversation is forgotten")


def save(session: ChatSession, argument: str) -> None:
    """`/save PATH`."""
    if not argument:
        tell("say where: /save PATH")
        return
    path = Path(argument).expanduser()
    session.save(path)
    tell(f"saved to {path}")


def write_answer(pieces: Generator[str, None, None], output: TextIO) -> None:
    """Write the pieces as they come, and a newline; the session's turn is over when this returns or raises.

    On a terminal control characters are left out: a model must not move the cursor or ring the bell.
    """
    shown = without_controls if output.isatty() else str
    with closing(pieces):
        for piece in pieces:
            output.write(shown(piece))
            output.flush()
    output.write("\n")
    output.flush()


def without_controls(text: str) -> str:
    """`text` without C0 and C1 control characters but newline and tab."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)


def one_line(fault: UserError) -> str:
    """A fault and what to do, in one line."""
    return " ".join(" ".join(filter(None, (f"error: {fault.message};", fault.hint))).rstrip(";").split())


def tell(text: str) -> None:
    """Say something that is not an answer."""
    print(text, file=sys.stderr, flush=True)


def tolerant(stream: TextIO) -> TextIO:
    """The same stream; a character outside its encoding is replaced instead of being a crash."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def silence(stream: TextIO) -> None:
    """Point a broken pipe to nowhere, so that the flush at exit says nothing."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
