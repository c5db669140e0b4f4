"""Programs that know nothing of us, against every model: the tutorials', nc, telnet, socat."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from echoframe.servers import MODELS
from echoframe.testing import Running, running

from ..helpers import DEADLINE

every_model = pytest.mark.parametrize("model", MODELS)
every_end = pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])


def has_nc_n() -> bool:
    """nc -N (end of input ends the sending side) is OpenBSD's."""
    try:
        done = subprocess.run(["nc", "-h"], capture_output=True, timeout=DEADLINE, check=False)
    except OSError:
        return False
    return b"-N" in done.stdout + done.stderr


needs_nc = pytest.mark.skipif(not has_nc_n(), reason="there is no nc that knows -N")
needs_telnet = pytest.mark.skipif(not shutil.which("telnet"), reason="there is no telnet")
needs_socat = pytest.mark.skipif(not shutil.which("socat"), reason="there is no socat")


def place(up: Running) -> tuple[str, str]:
    return up.address.host, str(up.address.port)


def tell(program: list[str], words: bytes) -> bytes:
    """Give a program its input and give what it printed when it has ended."""
    done = subprocess.run(
        program, input=words, stdout=subprocess.PIPE, timeout=DEADLINE, check=False
    )
    return done.stdout


# --------------------------------------------------------------- the tutorials'


@every_model
def test_the_echo_tutorials_client_gets_its_words_back(model: str) -> None:
    with running("echo", model) as up, socket.socket() as sock:
        sock.settimeout(DEADLINE)
        sock.connect((up.address.host, up.address.port))
        sock.sendall(b"Hello, world")
        assert f"Received {sock.recv(1024)!r}" == "Received b'Hello, world'"


@every_model
def test_the_command_tutorials_client_talks_until_it_is_closed(model: str) -> None:
    words = iter(["hello", "how are you", "x" * 1024, "Close"])

    def talk(sock: socket.socket) -> Iterator[str]:
        while True:
            sock.send(next(words).encode("utf-8")[:1024])
            reply = sock.recv(1024).decode("utf-8")
            yield reply
            if reply.lower() == "closed":
                break

    with running("command", model) as up, socket.socket() as sock:
        sock.settimeout(DEADLINE)
        sock.connect((up.address.host, up.address.port))
        assert list(talk(sock)) == ["accepted", "accepted", "accepted", "closed"]
        assert sock.recv(1024) == b""


# ----------------------------------------------------------------------- nc


@needs_nc
@every_end
@every_model
def test_nc_gets_its_words_back(model: str, end: bytes) -> None:
    with running("echo", model) as up:
        assert tell(["nc", "-N", *place(up)], b"hello" + end) == b"hello" + end


@needs_nc
@every_end
@every_model
def test_nc_gives_commands(model: str, end: bytes) -> None:
    with running("command", model) as up:
        if end:
            words = b"hi" + end + b"CLOSE" + end
            assert tell(["nc", "-N", *place(up)], words) == b"accepted" + end + b"closed" + end
        else:
            assert tell(["nc", "-N", *place(up)], b"close") == b"closed"


@needs_nc
@every_model
def test_nc_over_a_unix_socket(model: str) -> None:
    with running("echo", model, "unix") as up:
        assert tell(["nc", "-N", "-U", up.address.path], b"hello\n") == b"hello\n"


# -------------------------------------------------------------------- telnet


# It is given lines that end in LF, as by a keyboard, and sends CRLF.
@needs_telnet
@every_model
def test_telnet_gives_commands_and_is_hung_up_on(model: str) -> None:
    with running("command", model) as up:
        # It leaves at the end of its own input, so that comes when it was hung up on.
        telnet = subprocess.Popen(
            ["telnet", *place(up)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert telnet.stdin is not None
        assert telnet.stdout is not None
        with telnet:
            telnet.stdin.write(b"hi\nCLOSE\n")
            telnet.stdin.flush()
            said = telnet.stdout.read()
    assert b"accepted" in said
    assert b"closed" in said


# --------------------------------------------------------------------- socat


@needs_socat
@every_end
@every_model
def test_socat_gets_its_words_back(model: str, end: bytes) -> None:
    with running("echo", model) as up:
        target = "TCP:{}:{}".format(*place(up))
        assert tell(["socat", "-t", "10", "-", target], b"hello" + end) == b"hello" + end


@needs_socat
@every_model
def test_socat_gives_commands(model: str) -> None:
    with running("command", model) as up:
        target = "TCP:{}:{}".format(*place(up))
        assert (
            tell(["socat", "-t", "10", "-", target], b"hi\r\nclose\r\n")
            == b"accepted\r\nclosed\r\n"
        )
        assert tell(["socat", "-t", "10", "-", target], b"close") == b"closed"


@pytest.mark.long
@needs_socat
@every_model
def test_socat_over_an_abstract_socket_and_over_udp(model: str) -> None:
    with running("echo", model, "abstract") as up:
        target = f"ABSTRACT-CONNECT:{up.address.path[1:]}"
        assert tell(["socat", "-t", "10", "-", target], b"hello\n") == b"hello\n"
    with running("echo", model, "udp") as up:
        target = "UDP:{}:{}".format(*place(up))
        assert tell(["socat", "-t", "0.2", "-", target], b"hello\n") == b"hello\n"
