"""Who holds an address that is in use."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echoframe import Address, ListenError
from echoframe.servers import PreforkServer
from echoframe.transports import ListenOptions, bind, holder

from ..helpers import HAS_IPV6, Child, Notes, echo, forked, served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def refusal(place: str) -> str:
    with pytest.raises(ListenError) as caught:
        bind(Address.parse(place), ListenOptions())
    return str(caught.value)


def holding(place: str) -> Callable[[Notes], None]:
    """Hold an address in a process with a name of its own."""

    def work(told: Notes) -> None:
        Path("/proc/self/comm").write_text("an \x1b[2J echo")
        listener = bind(Address.parse(place), ListenOptions())
        if not listener.transport.datagrams:
            listener.transport.listen(listener.socket, ListenOptions())
        told.write(str(listener.address))
        told.write("it ends when it is killed")
        os.read(os.pipe()[0], 1)

    return work


def named(child: Child, place: str) -> str:
    return f"{place} is in use by process {child.pid} (an \\x1b[2J echo); stop it, or choose"


@pytest.mark.parametrize(
    "place",
    [
        "tcp://127.0.0.1:0",
        "udp://127.0.0.1:0",
        "unix://@echoframe a test",
        "unix://x y.sock",
        pytest.param("tcp://[::1]:0", marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6")),
    ],
)
def test_the_process_is_named(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with forked(holding(place)) as child:
        there = child.notes.next()
        assert refusal(there).startswith(named(child, there))


def test_every_interface_meets_each_of_them() -> None:
    with forked(holding("tcp://127.0.0.1:0")) as child:
        port = Address.parse(child.notes.next()).port
        for place in (f"tcp://0.0.0.0:{port}", f"tcp://:{port}", f"tls://localhost:{port}"):
            assert f" in use by process {child.pid} (" in refusal(place)
    with forked(holding("tcp://:0")) as child:
        port = Address.parse(child.notes.next()).port
        assert refusal(f"tcp://127.0.0.1:{port}").startswith(
            named(child, f"tcp://127.0.0.1:{port}")
        )


def test_who_has_the_port_of_another_address_or_protocol_is_not_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert holder.holder_of("tcp", ("127.0.0.1", port)) == holder.OURSELVES
        assert holder.holder_of("tcp", ("127.0.0.2", port)) == ""
        assert holder.holder_of("udp", ("127.0.0.1", port)) == ""
        assert holder.holder_of("tcp", ("::1", port)) == ""


def test_a_connection_that_has_the_port_is_named_too() -> None:
    # On 127.0.0.1 a connection of somebody else's may have the same number for its end.
    own = "127.84.13.5"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), source_address=(own, 0)) as client,
    ):
        assert refusal(f"{own}:{client.getsockname()[1]}").endswith(
            "is in use by this very process; choose another one"
        )


def test_of_processes_that_share_it_the_one_that_started_them_is_named() -> None:
    with served(PreforkServer, echo, workers=2) as up:
        assert f" in use by process {up.pid} (" in refusal(str(up.addresses[0]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_of_other_users_nothing_is_said() -> None:
    def ask(told: Notes) -> None:
        os.setuid(65534)
        told.write(refusal(place))

    with forked(holding("tcp://127.0.0.1:0")) as child:
        place = child.notes.next()
        with forked(ask) as other:
            assert other.notes.next() == (
                f"{place} is in use; stop whoever listens there, or choose another one"
            )


@pytest.mark.parametrize(("name", "value"), [("PROC", "/nowhere"), ("PATIENCE", -1.0)])
def test_where_nobody_tells_or_it_takes_too_long_nothing_is_said(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, name, value)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert refusal(f"127.0.0.1:{port}") == (
            f"tcp://127.0.0.1:{port} is in use; stop whoever listens there, or choose another one"
        )
