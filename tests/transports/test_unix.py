from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from echoframe.address import Address
from echoframe.errors import ConnectError, ListenError, RefusedError, TimedOut
from echoframe.transports import TRANSPORTS, ListenOptions, bind

from .sockets import DEADLINE, accept, bound, exchange, listening

UNIX = TRANSPORTS["unix"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # By way of the current folder: the path of a test may be longer than a
    # socket's name can be.
    monkeypatch.chdir(tmp_path)
    return "unix://x.sock"


def leave_behind(path: str = "x.sock") -> None:
    """A socket file as a server leaves it that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)


def test_a_path_is_served_and_removed(place: str) -> None:
    with listening(place) as listener:
        assert str(listener.address) == place
        assert stat.S_ISSOCK(os.lstat("x.sock").st_mode)
        assert exchange(listener) == f"process {os.getpid()}"
    assert not os.path.lexists("x.sock")


def test_the_listener_does_not_block_and_what_it_accepts_does(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "elsewhere")
    with listening(place) as listener:
        assert listener.socket.gettimeout() == 0
        with UNIX.connect(listener.address, DEADLINE, None):
            far, _ = accept(listener)
            with far:
                assert os.get_blocking(far.fileno())


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_served_and_makes_no_file(place: str) -> None:
    name = f"unix://@echoframe-test-{os.getpid()}"
    with listening(name) as listener:
        assert str(listener.address) == name
        exchange(listener)
        with pytest.raises(ListenError, match=f"{name} is in use"):
            bind(listener.address, ListenOptions())
    assert os.listdir() == []
    with pytest.raises(RefusedError, match=f"nobody listens at {name}"):
        UNIX.connect(Address.parse(name), DEADLINE, None)


# ------------------------------------------------------------------- stale files


def test_a_file_that_a_killed_server_left_behind_is_replaced(place: str) -> None:
    leave_behind()
    with listening(place) as listener:
        exchange(listener)


def test_a_live_servers_file_stays(place: str) -> None:
    with listening(place) as listener:
        with pytest.raises(ListenError) as caught:
            bind(listener.address, ListenOptions())
        assert str(caught.value).startswith("unix://x.sock is in use")
        assert caught.value.errno == errno.EADDRINUSE
        # The knock at its door, then a real visitor.
        accept(listener)[0].close()
        exchange(listener)


def test_a_socket_file_that_does_not_say_that_nobody_is_there_stays(place: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind("x.sock")
        with pytest.raises(ListenError, match="is in use"):
            bind(Address.parse(place), ListenOptions())
        assert os.path.lexists("x.sock")


def test_a_folder_and_a_file_are_refused_and_stay(place: str) -> None:
    Path("x.sock").mkdir()
    with pytest.raises(ListenError, match=r"unix://x.sock is a folder; choose another path"):
        bind(Address.parse(place), ListenOptions())
    Path("x.sock").rmdir()
    Path("x.sock").write_text("precious")
    with pytest.raises(ListenError, match=r"unix://x.sock is a file that is no socket"):
        bind(Address.parse(place), ListenOptions())
    assert Path("x.sock").read_text() == "precious"


def test_a_link_is_refused_even_if_it_leads_to_a_stale_socket(place: str) -> None:
    leave_behind("dead.sock")
    Path("x.sock").symlink_to("dead.sock")
    with pytest.raises(ListenError, match="is a file that is no socket"):
        bind(Address.parse(place), ListenOptions())
    assert os.path.lexists("dead.sock")


def test_a_path_without_its_folder_is_a_sentence(place: str) -> None:
    with pytest.raises(ListenError) as caught:
        bind(Address.parse("unix://no/x.sock"), ListenOptions())
    assert str(caught.value) == (
        "unix://no/x.sock is in a folder that does not exist; make it, or choose another path"
    )
    Path("file").write_text("")
    with pytest.raises(ListenError, match=r"cannot listen at unix://file/x.sock: Not a directory"):
        bind(Address.parse("unix://file/x.sock"), ListenOptions())


class Gone:
    """Stands for a file that vanishes, or may not be touched, between two looks at it."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self.error


def test_a_stale_file_that_vanishes_while_it_is_looked_at_is_no_matter(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind()
    seen = os.lstat("x.sock")
    Path("x.sock").unlink()
    monkeypatch.setattr(os, "lstat", lambda path: seen)
    with bound(place) as listener:
        monkeypatch.undo()
        assert listener.socket.getsockname() == "x.sock"


def test_a_stale_file_that_may_not_be_removed_is_a_sentence(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind()
    monkeypatch.setattr(os, "unlink", Gone(PermissionError(errno.EACCES, "no")))
    with pytest.raises(
        ListenError, match=r"unix://x.sock needs a permission that this user lacks$"
    ):
        bind(Address.parse(place), ListenOptions())


# ---------------------------------------------------------------- mode and owner


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777, 0])
def test_the_file_has_the_mode_that_was_asked_for(place: str, mode: int) -> None:
    before = os.umask(0o027)
    try:
        with bound(place, unix_mode=mode):
            assert stat.S_IMODE(os.lstat("x.sock").st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0, 0o770), (0o022, 0o750), (0o077, 0o700)])
def test_unless_it_was_asked_for_nobody_else_gets_in(place: str, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with bound(place):
            assert stat.S_IMODE(os.lstat("x.sock").st_mode) == mode
    finally:
        os.umask(before)


def test_the_file_has_the_owner_that_was_asked_for(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "chown", lambda *args: given.append(args))
    with bound(place, unix_owner=(12345, 54321)):
        found = os.lstat("x.sock")
        if given:
            assert given == [("x.sock", 12345, 54321)]
        else:
            assert (found.st_uid, found.st_gid) == (12345, 54321)


@pytest.mark.parametrize("refused", ["chown", "chmod"])
def test_a_file_that_cannot_be_what_was_asked_for_is_not_left_behind(
    place: str, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, refused, Gone(PermissionError(errno.EPERM, "no")))
    with pytest.raises(ListenError, match="needs a permission that this user lacks"):
        bind(Address.parse(place), ListenOptions(unix_mode=0o600, unix_owner=(0, 0)))
    assert not os.path.lexists("x.sock")


# ------------------------------------------------------- only what was made here


def test_a_file_that_somebody_put_there_in_the_meantime_stays(place: str) -> None:
    with bound(place):
        Path("x.sock").unlink()
        Path("x.sock").write_text("precious")
    assert Path("x.sock").read_text() == "precious"


def test_another_servers_socket_in_our_place_stays(place: str) -> None:
    with bound(place) as first:
        Path("x.sock").unlink()
        with listening(place) as second:
            first.close()
            exchange(second)


def test_a_file_that_is_gone_already_is_no_matter(place: str) -> None:
    with bound(place):
        Path("x.sock").unlink()
    assert os.listdir() == []


def test_closing_again_does_not_take_away_the_next_servers_file(place: str) -> None:
    with bound(place) as first:
        first.close()
        with listening(place) as second:
            # Even if the file system gives out the same inode number again.
            first.close()
            exchange(second)


def test_a_child_process_does_not_remove_its_parents_file(place: str) -> None:
    with listening(place) as listener:
        # What a child sees: a listener that another process made.
        listener.owner = os.getppid()
        listener.close()
        assert os.path.lexists("x.sock")


# -------------------------------------------------------------------- connecting


def test_nobody_listens_at_a_missing_and_at_a_stale_path(place: str) -> None:
    with pytest.raises(RefusedError, match=f"nobody listens at {place}"):
        UNIX.connect(Address.parse(place), DEADLINE, None)
    leave_behind()
    with pytest.raises(RefusedError, match=f"nobody listens at {place}"):
        UNIX.connect(Address.parse(place), DEADLINE, None)


def test_a_folder_on_the_way_that_is_none_is_a_sentence(place: str) -> None:
    Path("file").write_text("")
    with pytest.raises(ConnectError, match="cannot connect to unix://file/x: Not a directory"):
        UNIX.connect(Address.parse("unix://file/x"), DEADLINE, None)


def test_a_client_may_have_a_name_of_its_own(place: str) -> None:
    with listening(place) as listener:
        near = UNIX.connect(listener.address, DEADLINE, Address.parse("unix://near.sock"))
        with near:
            far, client_address = accept(listener)
            far.close()
    assert client_address == "near.sock"


class Full(socket.socket):
    """A socket that finds the backlog full a few times, as Linux says it."""

    times = 2

    def connect(self, address: Any) -> None:
        if self.times:
            self.times -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        super().connect(address)


def test_a_full_backlog_is_waited_for(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(place) as listener:
        monkeypatch.setattr(socket, "socket", Full)
        near = UNIX.connect(listener.address, DEADLINE, None)
        monkeypatch.undo()
        near.close()
        accept(listener)[0].close()


def test_a_backlog_that_stays_full_is_no_answer(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", type("Full", (Full,), {"times": 10_000}))
    with pytest.raises(TimedOut, match=r"no answer from unix://x.sock within 0.02 s"):
        UNIX.connect(Address.parse(place), 0.02, None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_a_client_comes_in_when_a_real_backlog_has_a_place_again(place: str) -> None:
    with listening(place, backlog=0) as listener:
        visitors: list[socket.socket] = []
        full = threading.Event()

        def visit() -> None:
            for _ in range(8):
                visitors.append(UNIX.connect(listener.address, DEADLINE, None))
            full.set()

        thread = threading.Thread(target=visit)
        thread.start()
        for _ in range(8):
            accept(listener)[0].close()
        thread.join(DEADLINE)
        assert full.is_set()
        for visitor in visitors:
            visitor.close()


def test_a_peer_is_called_by_its_process(place: str) -> None:
    say = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('x.sock'); s.recv(1)"
    with listening(place) as listener:
        child = subprocess.Popen([sys.executable, "-c", say])
        try:
            far, client_address = accept(listener)
            with far:
                assert UNIX.peer_name(far, client_address) == f"process {child.pid}"
        finally:
            child.wait(DEADLINE)


def test_a_peer_that_cannot_be_asked_is_a_process_on_this_machine(place: str) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.close()
        assert UNIX.peer_name(gone, "") == "a process on this machine"
