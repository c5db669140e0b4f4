"""echoframe send: what comes back, and nothing else, is on standard output."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading

import pytest

from echoframe.cli import main
from echoframe.testing import running

from .programs import PATIENCE, run

EVERY_BYTE = bytes(range(256))


def send(
    *words: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    stdin: bytes = b"",
) -> bytes:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    assert main(["send", *words]) == 0
    return capfdbinary.readouterr().out


@pytest.fixture
def sending(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> object:
    from functools import partial

    return partial(send, capfdbinary=capfdbinary, monkeypatch=monkeypatch)


def test_texts_are_lines_as_of_nc(sending: object) -> None:
    assert callable(sending)
    with running("echo") as up:
        assert sending(str(up.address), "hello", "you there") == b"hello\nyou there\n"
    with running("command") as up:
        assert sending(str(up.address), "hello", "close", "lost") == b"accepted\nclosed\n"


@pytest.mark.parametrize("words", [[], ["-"]])
def test_standard_input_goes_out_as_it_is(words: list[str], sending: object) -> None:
    assert callable(sending)
    with running("echo") as up:
        assert sending(str(up.address), *words, stdin=EVERY_BYTE) == EVERY_BYTE


def test_a_megabyte_through_a_pipe() -> None:
    data = EVERY_BYTE * 4096
    with running("echo") as up:
        done = run("send", str(up.address), "-", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_protocol_makes_messages(sending: object) -> None:
    assert callable(sending)
    with running("command") as up:
        place = str(up.address)
        assert sending("--protocol", "command", place, "hello", "close") == b"accepted\nclosed\n"
        assert sending(place, "--protocol", "command", stdin=b"a\nb\n") == b"accepted\naccepted\n"
    with running("echo") as up:
        place = str(up.address)
        assert sending("--protocol", "echo", place, "a", "bc") == b"a\nbc\n"
        assert sending("--protocol", "echo", place, stdin=EVERY_BYTE) == EVERY_BYTE
    with running("upper") as up:
        assert sending("--protocol", "upper", str(up.address), "a") == b"A\n"


def test_a_framing_wins_over_the_protocols(sending: object) -> None:
    assert callable(sending)
    with running("upper", framing="length") as up:
        place = str(up.address)
        words = ("--protocol", "upper", "--framing", "length", place)
        assert sending(*words, "a", "b") == b"A\nB\n"
        assert sending(*words, "-", stdin=b"a\nb\n") == b"A\nB\n"
    with running("upper", framing="fixed:3") as up:
        assert sending("--framing", "fixed:3", str(up.address), stdin=b"abcdef") == b"ABCDEF"
    with running("upper", framing="delimiter:;") as up:
        assert sending("--framing", "delimiter:;", str(up.address), stdin=b"a;b") == b"A\nB\n"


def test_datagrams(sending: object) -> None:
    assert callable(sending)
    with running("command", transport="udp") as up:
        place = str(up.address)
        assert sending(place, "hello", "close") == b"accepted\nclosed\n"
        assert sending(place, stdin=b"close") == b"closed"


def test_a_text_with_a_dash(sending: object) -> None:
    assert callable(sending)
    with running("echo") as up:
        assert sending(str(up.address), "--", "-n", "--x") == b"-n\n--x\n"


def test_bytes_that_are_not_utf_8() -> None:
    with running("echo") as up:
        done = run("send", str(up.address), b"\xff\xfe")  # type: ignore[arg-type]  # any bytes
    assert done.stdout == b"\xff\xfe\n"


def test_no_answer_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        assert main(["send", place, "hello", "--timeout", "0.1"]) == 1
    assert capsys.readouterr().err == (
        f"echoframe: nothing moved to or from tcp://{place} for 0.1 s\n"
    )


def test_it_tries_again_when_told_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    codes: list[int] = []
    client = threading.Thread(
        target=lambda: codes.append(run("send", f":{port}", "hello", "--retry", "20").returncode)
    )
    client.start()
    try:
        # By now, or soon, somebody knocks in vain; either way it must get through.
        with running("echo", transport=f"tcp://127.0.0.1:{port}"):
            client.join(PATIENCE)
    finally:
        client.join(PATIENCE)
    assert codes == [0]


def test_a_reader_that_leaves() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        with running("echo") as up:
            done = run("send", str(up.address), "hello", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("words", "stdin"),
    [(["hello"], b""), ([], b"hello\n"), (["--framing", "line"], b"hello\n")],
)
def test_who_hangs_up_without_a_reply_has_not_answered(words: list[str], stdin: bytes) -> None:
    with running(lambda message: None) as up:
        done = run("send", str(up.address), *words, input=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    said = f"echoframe: {up.address} ended the connection without a reply\n"
    assert done.stderr == said.encode()


def test_who_is_asked_nothing_need_not_answer(sending: object) -> None:
    assert callable(sending)
    with running("echo") as up:
        assert sending(str(up.address), stdin=b"") == b""


def test_a_text_of_another_size_than_the_framing_has_is_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running("echo") as up:
        assert main(["send", "--framing", "fixed:5", str(up.address), "four"]) == 2
    assert capsys.readouterr().err == (
        "echoframe: a message of 4 bytes does not fit a framing of 5\n"
    )
