"""The helpers themselves: a test that trusts a broken one proves nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from echoframe.address import Address
from echoframe.servers import MODELS, ThreadServer

from .helpers import (
    Census,
    Gate,
    Notes,
    ask,
    census,
    crash_on,
    echo,
    eventually,
    forked,
    left_of,
    logged,
    nothing_left_behind,
    pump,
    raw_connection,
    read_exactly,
    read_line,
    read_to_end,
    reset,
    served,
)


class Place:
    def __init__(self, *addresses: Address) -> None:
        self.addresses = list(addresses)


def pair() -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    near.settimeout(5)
    return near, far


def test_a_line_is_read_to_its_end_and_no_further() -> None:
    near, far = pair()
    with near, far:
        far.sendall(b"one\ntwo")
        assert read_line(near) == b"one\n"
        far.close()
        assert read_line(near) == b"two"
        assert read_line(near) == b""


def test_so_many_bytes_are_read_and_no_more() -> None:
    near, far = pair()
    with near, far:
        far.sendall(b"abcdef")
        assert read_exactly(near, 4) == b"abcd"
        far.close()
        assert read_exactly(near, 4) == b"ef"


def test_reading_to_the_end_has_a_deadline() -> None:
    near, far = pair()
    near.settimeout(0.02)
    with near, far:
        with pytest.raises(TimeoutError):
            read_to_end(near)
        far.sendall(b"abc")
        far.close()
        assert read_to_end(near) == b"abc"


def test_a_pump_sends_more_than_both_buffers_hold() -> None:
    data = os.urandom(1 << 22)
    near, far = pair()

    def talk() -> None:
        while more := far.recv(65536):
            far.sendall(more)
        far.close()

    other = threading.Thread(target=talk)
    with near, far:
        other.start()
        assert pump(near, data) == data
        other.join()


def test_a_reset_is_an_error_at_the_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = raw_connection(Place(Address.of(listener.getsockname(), listener.family)))
        far, _ = listener.accept()
        with far:
            far.settimeout(5)
            reset(near)
            with pytest.raises(ConnectionResetError):
                far.recv(1)


def test_a_connection_that_is_refused_leaves_no_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address.of(listener.getsockname(), listener.family)
    with nothing_left_behind(), pytest.raises(ConnectionRefusedError):
        raw_connection(Place(address))


def test_notes_keep_their_order_and_have_a_deadline() -> None:
    notes = Notes()
    notes.write("one", 1)
    notes.write("two")
    notes.write("three")
    assert notes.next() == "one 1"
    assert notes.so_far() == ["two", "three"]
    assert notes.so_far() == []
    with pytest.raises(AssertionError, match=r"within 0.01 s"):
        notes.next(0.01)
    notes.close()


def test_notes_and_gates_reach_across_a_fork() -> None:
    gate = Gate()

    def work(notes: Notes) -> None:
        notes.write(gate.wait())
        notes.write(gate.wait())

    with forked(work) as child:
        assert not gate.wait(0)
        gate.open()
        assert child.notes.take(2) == ["True", "True"]
        assert child.wait() == 0
    gate.close()


def test_a_forked_process_tells_how_it_ended(capfd: pytest.CaptureFixture[str]) -> None:
    with forked(lambda notes: crash_on(b"boom")(b"boom")) as child:
        assert child.wait() == 1
    assert "crashed on boom" in capfd.readouterr().err
    with forked(lambda notes: os.kill(os.getpid(), signal.SIGKILL)) as child:
        assert child.wait() == -signal.SIGKILL


def test_a_forked_process_does_not_outlive_its_with_block() -> None:
    with nothing_left_behind(), forked(lambda notes: signal.pause()):
        pass


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_a_server_of_ones_own_serves_and_reports(model: str, alone: bool) -> None:
    with nothing_left_behind():
        with served(MODELS[model], echo, alone=alone) as up, raw_connection(up) as peer:
            assert ask(peer, b"hello") == b"hello"
            assert (up.server is None) is (alone or MODELS[model].forks)
        assert up.report is not None
        assert up.report.served == 1


def test_the_log_holds_what_threads_and_processes_say(tmp_path: Path) -> None:
    with logged(tmp_path / "log") as log:
        with forked(lambda notes: ThreadServer("tcp://127.0.0.1:0", echo).close()) as child:
            assert child.wait() == 0
        log.expect("INFO Listening on 127.0.0.1:")
        assert log.tracebacks == 0


def check(before: Census) -> None:
    left = left_of(before)
    assert left == Census((), (), ()), str(left)


def test_what_is_left_behind_is_named() -> None:
    before = census()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="forgotten")
    with pytest.raises(AssertionError, match="forgotten"), nothing_left_behind(0.01):
        thread.start()
    gate.set()
    thread.join()
    read, write = os.pipe()
    with pytest.raises(AssertionError, match=rf"descriptors=\({read}, {write}\)"):
        check(before)
    os.close(read)
    os.close(write)
    with forked(lambda notes: None) as child, pytest.raises(AssertionError, match=str(child.pid)):
        check(before)
    assert census() == before


def test_what_ends_a_little_later_is_waited_for() -> None:
    gate = threading.Event()
    with nothing_left_behind():
        thread = threading.Thread(target=gate.wait)
        thread.start()
        ender = threading.Timer(0.02, gate.set)
        ender.start()
    assert not thread.is_alive()


def test_eventually_gives_up() -> None:
    with pytest.raises(AssertionError, match="the moon has not happened"):
        eventually(lambda: False, "the moon", 0.01)
    assert eventually(lambda: 3) == 3
