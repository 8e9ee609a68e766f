"""A conversation in a terminal, or through a pipe."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from selfalign.chat.commands import COMMANDS, Talk, obey
from selfalign.chat.line_editor import line_editor
from selfalign.chat.session import ChatSession
from selfalign.chat.showing import tell, write_answer
from selfalign.errors import UserError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

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
    prompt, talk = line_editor(completions(session)), Talk(session, output)
    while True:
        try:
            answer_or_obey(talk, read_line(prompt))
        except EOFError:
            return 0
        except UserError as fault:
            tell(one_line(fault))
        except KeyboardInterrupt:
            output.write("\n")
            output.flush()
            tell("[stopped]")


def completions(session: ChatSession) -> tuple[str, ...]:
    """What Tab completes: commands, and the models where one is named."""
    named = [f"{command} {model}" for command in ("/model", "/compare") for model in session.source.models()]
    return (*COMMANDS, *named)


def answer_or_obey(talk: Talk, line: str) -> None:
    """One turn, or one command."""
    if line.startswith("/"):
        obey(talk, line)
    elif line:
        write_answer(talk.session.ask(line), talk.output)


def read_line(prompt: PromptSession[str]) -> str:
    """What is typed next, without space around it. Ctrl-C clears it; EOFError at the end of input.

    prompt_toolkit gives bytes that are no UTF-8 as lone surrogates, which neither a tokenizer nor a file takes.
    """
    while True:
        try:
            return prompt.prompt("> ").encode(errors="replace").decode().strip()
        except KeyboardInterrupt:
            if not prompt.default_buffer.text:
                tell(LEAVE_HINT)


def one_line(fault: UserError) -> str:
    """A fault and what to do, in one line."""
    return " ".join(" ".join(filter(None, (f"error: {fault.message};", fault.hint))).rstrip(";").split())


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
