"""What a terminal chat obeys and shows: commands, several lines, history, Markdown. test_chat.py has the terminal."""

from __future__ import annotations

import io
import json
import re
import stat
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from selfalign.chat.commands import COMMANDS, Talk, obey
from selfalign.chat.line_editor import history, history_file, line_editor
from selfalign.chat.session import ChatSession
from selfalign.chat.showing import write_answer
from selfalign.chat.source import CUT, Said
from selfalign.chat.stream_markdown import StreamedMarkdown, start_of_last_block
from selfalign.engines.base import Sampling
from selfalign.errors import UserError
from selfalign.records import Message


class Two:
    """Two models that say their name, the system text and the last message; `thinker` thinks first."""

    def models(self) -> Sequence[str]:
        return ("final", "thinker")

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> Generator[Said, None, None]:
        if model == "thinker":
            yield Said("the oldest 2 turns were dropped", "notice")
            yield Said("7 (candor) ", "thought")
            yield Said("applies", "thought")
        system = messages[0]["content"] if messages[0]["role"] == "system" else "none"
        yield Said(f"{model}/{system}: ")
        yield Said(f"{messages[-1]['content']} ({len(messages)})")
        if messages[-1]["content"] == "long":
            yield CUT


class Screen(io.StringIO):
    """A terminal of 80 columns that keeps what is written."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """What stands there, without colours and without the frames that were drawn over."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue().rpartition("\x1b[?25h")[2])


@pytest.fixture
def talk() -> Talk:
    return Talk(ChatSession(Two(), Sampling(), 0), io.StringIO())


def written(talk: Talk) -> str:
    assert isinstance(talk.output, io.StringIO)
    return talk.output.getvalue()


def test_another_model_goes_on_with_the_conversation(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    write_answer(talk.session.ask("Hello"), talk.output)
    obey(talk, "/model thinker")
    write_answer(talk.session.ask("And now?"), talk.output)
    assert written(talk) == "final/none: Hello (1)\nthinker/none: And now? (3)\n"
    assert capsys.readouterr().err == (
        "  final\n* thinker\n[notice] the oldest 2 turns were dropped\n[thought] 7 (candor) applies\n"
    )
    assert talk.session.messages[3] == {"role": "assistant", "content": "thinker/none: And now? (3)"}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_answer_that_was_cut_says_so_after_it_and_is_kept(
    capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    talk = Talk(ChatSession(Two(), Sampling(), 0), Screen() if is_terminal else io.StringIO())
    write_answer(talk.session.ask("long"), talk.output)
    assert "length limit" not in written(talk)
    assert capsys.readouterr().err == "[notice] the answer was cut at its length limit: --max-tokens\n"
    assert talk.session.messages[-1]["content"] == "final/none: long (1)"


def test_a_comparison_keeps_the_answer_of_the_model_in_use(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    obey(talk, "/compare thinker Who are you?")
    assert written(talk) == "thinker/none: Who are you? (1)\nfinal/none: Who are you? (1)\n"
    assert talk.session.messages[-1]["content"] == "final/none: Who are you? (1)"
    err = capsys.readouterr().err
    assert err.index("[thinker]") < err.index("[final]")


def test_a_system_text_is_set_saved_loaded_and_taken_back(talk: Talk, tmp_path: Path) -> None:
    obey(talk, "/system Answer in\nrhyme.")
    write_answer(talk.session.ask("Hello"), talk.output)
    assert written(talk) == "final/Answer in\nrhyme.: Hello (2)\n"
    obey(talk, f"/save {tmp_path / 'chat.json'}")
    saved = json.loads((tmp_path / "chat.json").read_text(encoding="utf-8"))["messages"]
    assert [message["role"] for message in saved] == ["system", "user", "assistant"]

    other = Talk(ChatSession(Two(), Sampling(), 0), io.StringIO())
    obey(other, f"/load {tmp_path / 'chat.json'}")
    assert (other.session.system, other.session.messages) == ("Answer in\nrhyme.", talk.session.messages)
    obey(other, "/system default")
    assert other.session.system == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "no list `messages`"),
        ('{"messages": [{"role": "assistant", "content": "Hi"}]}', "turn 1 must be of role user, not assistant"),
        ('{"messages": [{"role": "user", "content": "Hi"}]}', "must end with an answer"),
        ('{"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": ""}]}', "must be a string"),
        ('{"messages": ["Hi", "Hi"]}', "turn 1 must be of role user, not None"),
    ],
)
def test_what_is_no_conversation_is_not_loaded(talk: Talk, tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "chat.json"
    path.write_text(content)
    write_answer(talk.session.ask("Hello"), talk.output)
    with pytest.raises(UserError, match=reason):
        obey(talk, f"/load {path}")
    assert len(talk.session.messages) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/frobnicate", "no command /frobnicate"),
        ("/model nobody", "no model is named 'nobody'"),
        ("/compare nobody Hello", "no model is named 'nobody'"),
        ("/compare thinker", "say whom and what"),
        ("/save", "say where"),
        ("/load", "say which file"),
        ("/load /nowhere/chat.json", "No such file"),
    ],
)
def test_a_command_that_cannot_be_obeyed_says_why(talk: Talk, line: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as fault:
        obey(talk, line)
    assert fault.value.hint


def test_help_has_every_command(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    obey(talk, "/help")
    shown = capsys.readouterr().err
    assert all(name in shown for name in COMMANDS)


MARKDOWN = """\
# Bread

Knead it *well*, see [here](https://bread.example) and <script>alert(1)</script>.

1. flour
2. water

```python
def bake():
    return "crust"
```

Done\x1b[2J\x07."""


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_markdown_is_drawn_as_it_streams_and_ends_the_same(step: int) -> None:
    screen = Screen()
    with StreamedMarkdown(screen) as markdown:
        for i in range(0, len(MARKDOWN), step):
            markdown.add(MARKDOWN[i : i + step])
    everything = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    for shown in ("Knead it well, see here (https://bread.example) and <script>alert(1)</script>", 'return "crust"'):
        assert shown in " ".join(everything.split())
    assert "Done[2J." in screen.text()
    assert "\x07" not in screen.getvalue()
    assert "```" not in screen.text()


def test_only_the_last_block_is_open() -> None:
    assert start_of_last_block("") == 0
    assert start_of_last_block("One\ntwo") == 0
    assert start_of_last_block("One\n\n- a\n- b") == len("One\n\n")
    assert start_of_last_block("a\u2028b\n\n```\nx\n\ny") == len("a\u2028b\n\n")


def test_history_is_kept_for_the_next_session_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = history_file()
    history(path).append_string("first line\nsecond line")
    assert list(history(path).load_history_strings()) == ["first line\nsecond line"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_history_that_cannot_be_written_stays_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = history(tmp_path / "file/history")
    kept.append_string("Hello")
    assert list(kept.get_strings()) == ["Hello"]


@pytest.mark.parametrize("keys", ["one\x1b\rtwo\r", "one\\\rtwo\r", "one\ntwo\r", "\x1b[200~one\ntwo\x1b[201~\r"])
def test_several_lines_are_typed_or_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
        monkeypatch.setattr("prompt_toolkit.output.create_output", lambda **_: DummyOutput())
        typed.send_text(keys)
        assert line_editor(()).prompt("> ") == "one\ntwo"
