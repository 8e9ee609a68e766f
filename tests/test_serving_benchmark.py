"""The benchmark of the server: what it makes of the bytes that come, and its arithmetic."""

from __future__ import annotations

import asyncio
import json

import pytest
from benchmarks.serving.__main__ import parser
from benchmarks.serving.client import Answer, Arrival, Raw, crowd, read
from benchmarks.serving.figures import gaps, level, middle, percentile, ratios, slope
from benchmarks.serving.memory import Sample, flatness
from benchmarks.serving.messages import questions
from benchmarks.serving.tables import comparison


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def said(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}])


USAGE = event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3})
WHOLE = said("a") + said("b") + USAGE + b"data: [DONE]\n\n"


def answer(began: float, *pieces: float, tokens: int = 4, error: str = "") -> Answer:
    return Answer(began, (pieces or (began,))[-1], list(pieces), 10, tokens, "", error)


# -------------------------------------------------------------------------------------------------------- client
def framed(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (status, len(body), body)


def test_a_piece_has_the_time_at_which_its_last_byte_came() -> None:
    data = framed(WHOLE)
    cut = data.index(said("a")) + 9
    found = read(Raw(0.0, [Arrival(1.0, data[:cut]), Arrival(2.0, data[cut:])]))
    assert found.pieces == [2.0, 2.0]
    assert (found.text, found.prompt_tokens, found.tokens, found.error) == ("ab", 5, 3, "")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (framed(b"full", 503), "status 503: full"),
        (framed(said("a")), "no token count"),
        (framed(USAGE), ""),
        (framed(WHOLE)[:-30], "ValueError: the answer was broken off"),
        (framed(said("a") + event(error="broke")), "broke"),
        (b"no HTTP\r\n\r\n", "RemoteProtocolError: illegal status line: bytearray(b'no HTTP')"),
    ],
)
def test_an_answer_that_is_not_whole_is_a_fault_and_an_empty_one_is_not(data: bytes, error: str) -> None:
    assert read(Raw(0.0, [Arrival(1.0, data)])).error == error


def test_a_server_that_is_not_there_is_a_fault() -> None:
    (found,) = asyncio.run(crowd("http://127.0.0.1:9/v1", [[{}]]))
    assert found.error.startswith("ConnectionRefusedError")


def test_a_crowd_asks_at_once_and_each_user_one_question_after_the_other() -> None:
    open_now = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        await reader.readuntil(b"}")
        open_now += 1
        most = max(most, open_now)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (WHOLE[:20], WHOLE[20:], b""):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await asyncio.sleep(0.01)
        open_now -= 1
        writer.close()

    async def ask() -> list[Answer]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await crowd(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", [[{}, {}], [{}, {}]])

    found = asyncio.run(ask())
    assert [(one.text, one.error) for one in found] == [("ab", "")] * 4
    assert most == 2


# ------------------------------------------------------------------------------------------------------ figures
def test_the_rate_is_over_the_time_from_the_first_question_to_the_last_answer() -> None:
    empty = answer(1.0)._replace(pieces=[], tokens=1)
    found = level(2, [answer(1.0, 1.5, 2.0), answer(1.0, 2.5, 3.0), empty, answer(1.0, error="gone")])
    assert (found["tokens"], found["seconds"], found["tokens_per_second"]) == (9, 2.0, 4.5)
    assert (found["errors"], found["faults"]) == (1, ["gone"])
    assert (found["first_p50"], found["first_p95"], found["gap_p95"]) == (1.0, pytest.approx(1.45), 0.5)


def test_a_crowd_without_an_answer_has_no_rate() -> None:
    found = level(1, [answer(0.0, error="gone")])
    assert found["errors"] == 1 and "tokens_per_second" not in found
    assert middle([found])["errors"] == 1


def test_gaps_are_within_an_answer() -> None:
    assert gaps([answer(0.0, 1.0, 3.0), answer(0.0, 10.0), answer(0.0, 5.0, 6.0, 6.5)]) == [2.0, 1.0, 0.5]


def test_percentiles_lie_between_values() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0, 5.0], percent) for percent in (50, 95)] == [3.0, pytest.approx(4.8)]
    assert percentile([7.0], 95) == 7.0 and percentile([], 95) == 0.0


def test_the_middle_repeat_carries_the_errors_of_all() -> None:
    repeats = [{"tokens_per_second": rate, "errors": errors} for rate, errors in ((30.0, 1), (10.0, 0), (20.0, 2))]
    assert middle(repeats) == {"tokens_per_second": 20.0, "errors": 3}


def test_ratios_are_those_of_one_repeat() -> None:
    ours = [{"tokens_per_second": 90.0}, {"tokens_per_second": 50.0}, {"errors": 16}]
    theirs = [{"tokens_per_second": 100.0}, {"tokens_per_second": 40.0}, {"tokens_per_second": 1.0}]
    assert ratios(ours, theirs) == [0.9, 1.25]


def test_memory_rises_by_the_slope_after_the_warm_up() -> None:
    samples = [Sample(0.0, 100.0), Sample(1.0, 900.0), *(Sample(minute, 500.0 + minute) for minute in range(2, 11))]
    found = flatness(samples)
    assert (found["first_mib"], found["settled_mib"], found["last_mib"], found["peak_mib"]) == (100, 502, 510, 900)
    assert found["slope_mib_per_minute"] == 1.0
    assert slope([1.0], [5.0]) == 0.0


# -------------------------------------------------------------------------------------------------------- table
def test_the_table_has_milliseconds_the_verdicts_and_what_was_left_out() -> None:
    row = {"name": "selfalign", "users": 16, "rates": [90.4, None], "errors": 1}
    row |= {"tokens_per_second": 90.4, "first_p50": 0.0501, "first_p95": 0.2, "gap_p95": 0.061}
    ratio = {"median": 0.9, "repeats": [0.9]}
    result = {
        "rows": [row, {"name": "peer", "users": 16, "rates": [None], "errors": 16}],
        "ratios_at_16": {"embedded engine, offline": ratio, "llama.cpp": ratio},
        "servers": {"selfalign": {}, "other": {"skipped": "not installed"}},
    }
    lines = comparison(result).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        *("selfalign", "16", "90", "90, none", "50", "200", "61", "1")
    ]
    assert "at 16 users: 0.90 times embedded engine, offline (to reach: 0.85)" in lines
    assert "at 16 users: 0.90 times llama.cpp (to reach: above 1)" in lines
    assert lines[-1] == "other: not installed"


def test_no_question_is_asked_twice_in_a_crowd_of_64() -> None:
    asked = [one for own in questions(64, 2) for one in own]
    assert len({one.text for one in asked}) == len({one.seed for one in asked}) == 128


def test_a_peer_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["table", "--peers", "tgi"])
    assert "no peer tgi; there are transformers, llama.cpp" in capsys.readouterr().err
