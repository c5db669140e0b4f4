"""echoframe connect: the tutorial's client, at a keyboard and in a pipe."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from echoframe.testing import running

from .programs import PATIENCE, Reader, run, started, surroundings


@contextmanager
def tutorial_server() -> Iterator[str]:
    """The tutorial's server: one recv(1024) for a message, and nothing marks its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while True:
                request = peer.recv(1024).decode("utf-8")
                if not request or request.lower() == "close":
                    peer.sendall(b"closed")
                    break
                peer.sendall(b"accepted")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(PATIENCE)
        listener.close()
    assert not thread.is_alive()


def test_the_tutorials_server_and_piped_input() -> None:
    with tutorial_server() as address:
        done = run("connect", address, input="hello\n\nwörld\nclose\nnever sent\n".encode())
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.decode().splitlines() == [
        "Received: accepted",
        "Received: accepted",
        "Received: closed",
        "Connection to server closed",
    ]


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_our_server(transport: str) -> None:
    with running("command", transport=transport) as up:
        done = run("connect", str(up.address), input=b"hello\nClose")
    assert done.returncode == 0
    assert done.stdout == (b"Received: accepted\nReceived: closed\nConnection to server closed\n")


def test_the_end_of_input_ends_it() -> None:
    with running("command") as up:
        done = run("connect", str(up.address), input=b"hello\n")
    assert (done.returncode, done.stdout) == (
        0,
        b"Received: accepted\nConnection to server closed\n",
    )


@pytest.mark.parametrize(
    ("message", "sent"), [("x" * 1025, 1024), ("x" * 1023 + "ü", 1023), ("x" * 1024, 1024)]
)
def test_a_message_too_long_is_cut_with_a_warning(message: str, sent: int) -> None:
    def length(message: bytes) -> str:
        message.decode()
        return str(len(message))

    with running(length, framing="raw") as up:
        done = run("connect", str(up.address), input=message.encode())
    assert done.returncode == 0
    assert done.stdout.startswith(b"Received: %d\n" % sent)
    assert (b"is cut to" in done.stderr) is (len(message.encode()) > 1024)


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    with running(lambda message: b"\x1b]0;x\x07\xff\n", framing="raw") as up:
        done = run("connect", str(up.address), input=b"hello")
    assert done.stdout.startswith(b"Received: \\x1b]0;x\\x07\\xff\nConnection")


def test_a_greeting_is_not_taken_for_the_reply() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        with Keyboard(f"127.0.0.1:{listener.getsockname()[1]}") as talk:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(PATIENCE)
                peer.sendall(b"welcome")
                talk.prompt()
                talk.type("hello\n")
                assert peer.recv(100) == b"hello"
                talk.log.until("Received: welcome")
                peer.sendall(b"HELLO")
                talk.log.until("Received: HELLO")
                talk.prompt(2)
                talk.type("\x04")
                assert talk.end() == 0


@pytest.mark.slow
def test_closed_by_a_server_that_stays() -> None:
    with running("echo") as up:
        done = run("connect", str(up.address), input=b"closed\nstill there\n")
    assert done.stdout == (
        b"Received: closed\nReceived: still there\nConnection to server closed\n"
    )


def test_a_server_that_hangs_up_without_an_answer() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)
    with listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with started(
            "connect",
            place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            peer, _ = listener.accept()
            peer.close()
            out, err = process.communicate(b"hello\n", timeout=PATIENCE)
    assert (process.returncode, out) == (1, b"Connection to server closed\n")
    assert err.startswith(b"echoframe: tcp://" + place.encode())
    assert err.count(b"\n") == 1


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    done = run("connect", place)
    assert done.returncode == 1
    assert done.stderr == f"echoframe: nobody listens at tcp://{place}\n".encode()


@pytest.mark.slow
def test_a_silent_server_and_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        done = run("connect", place, "--timeout", "0.2", input=b"hello\n")
    assert done.returncode == 1
    assert b"within 0.2 s" in done.stderr


class Keyboard:
    """`connect` at a terminal."""

    def __init__(self, address: str) -> None:
        self._ours, theirs = pty.openpty()
        self._context = started(
            "connect",
            address,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=surroundings(TERM="dumb"),
            # A terminal of its own, so that Ctrl-C reaches it alone.
            preexec_fn=_take_terminal,
        )
        self._process = self._context.__enter__()
        os.close(theirs)
        self.log = Reader(self._ours)

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def prompt(self, number: int = 1) -> None:
        """Wait for a prompt: what is typed before it may be lost."""
        while self.log.text.count("Enter message: ") < number:
            assert self.log.more(), self.log.text

    def interrupt(self) -> int:
        """Press Ctrl-C until it helps: just behind its prompt, readline may miss one."""
        for _ in range(int(PATIENCE / 0.5)):
            self.type("\x03")
            try:
                return self._process.wait(0.5)
            except subprocess.TimeoutExpired:
                pass
        raise AssertionError("Ctrl-C does not end it")

    def end(self) -> int:
        self.log.rest()
        return self._process.wait(PATIENCE)


def _take_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_at_a_keyboard() -> None:
    with running("command") as up, Keyboard(str(up.address)) as talk:
        talk.prompt()
        talk.type("hello\n")
        talk.log.until("Received: accepted")
        talk.prompt(2)
        talk.type("\n")
        talk.prompt(3)
        talk.type("close\n")
        talk.log.until("Received: closed")
        talk.log.until("Connection to server closed")
        assert talk.end() == 0
    assert talk.log.text.count("Enter message: ") == 3


def test_ctrl_d_at_a_keyboard() -> None:
    with running("command") as up, Keyboard(str(up.address)) as talk:
        talk.prompt()
        talk.type("\x04")
        talk.log.until("Connection to server closed")
        assert talk.end() == 0


def test_ctrl_c_at_a_keyboard() -> None:
    with running("command") as up, Keyboard(str(up.address)) as talk:
        talk.prompt()
        assert talk.interrupt() == 128 + signal.SIGINT
        talk.log.rest()
    assert "Traceback" not in talk.log.text
