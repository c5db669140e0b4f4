from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from echoframe.address import Address
from echoframe.errors import AddressError, ConnectError, ListenError, RefusedError, TimedOut
from echoframe.transports import TRANSPORTS, ListenOptions, Transport, bind, transport_of
from echoframe.transports.base import connect_error, listen_error, remaining
from echoframe.transports.tcp import is_its_own_peer

from .sockets import DEADLINE, accept, bound, exchange, listening, needs_ipv6

TCP = TRANSPORTS["tcp"]


def connect(place: Any, source: str | None = None, timeout: float = DEADLINE) -> socket.socket:
    address = Address.parse(place)
    near = None if source is None else Address.parse(source)
    return transport_of(address).connect(address, timeout, near)


def found(*places: tuple[int, Any]) -> list[tuple[Any, ...]]:
    return [(family, socket.SOCK_STREAM, 0, "", where) for family, where in places]


# A look-up whose first finds are of no use here: a family that nobody has, and
# an address (for documentation) that no machine has.
NOT_HERE = found((250, ("?", 0)), (socket.AF_INET, ("192.0.2.1", 0)))


def test_port_0_is_the_port_that_the_kernel_chose() -> None:
    with listening("tcp://127.0.0.1:0") as listener:
        assert listener.address.port > 0
        assert listener.address.port == listener.socket.getsockname()[1]
        assert str(listener.address) == f"tcp://127.0.0.1:{listener.address.port}"
        assert listener.fileno() == listener.socket.fileno()
        name = exchange(listener)
    assert name.startswith("127.0.0.1:")


def test_a_bound_listener_does_not_listen_yet() -> None:
    with bound("tcp://127.0.0.1:0") as listener, pytest.raises(RefusedError):
        connect(listener.address)


@needs_ipv6
def test_an_ipv6_address_serves_ipv6_alone() -> None:
    with listening("tcp://[::1]:0") as listener:
        assert str(listener.address) == f"tcp://[::1]:{listener.address.port}"
        assert exchange(listener).startswith("[::1]:")
    with listening("tcp://[::]:0") as listener, pytest.raises(RefusedError):
        connect(("127.0.0.1", listener.address.port))


@needs_ipv6
def test_an_empty_host_is_every_interface_of_both_families() -> None:
    with listening("tcp://:0") as listener:
        port = listener.address.port
        assert exchange(listener, f"tcp://[::1]:{port}").startswith("[::1]:")
        # An IPv4 peer is called by its own name.
        assert exchange(listener, f"tcp://127.0.0.1:{port}").startswith("127.0.0.1:")
        exchange(listener, f"tcp://:{port}")


def test_an_empty_host_is_ipv4_alone_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = found((socket.AF_INET, ("0.0.0.0", 0)), (socket.AF_INET6, ("2001:db8::1", 0, 0, 0)))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    address = Address.parse("tcp://:0")
    listener = bind(address, ListenOptions())
    monkeypatch.undo()
    try:
        assert listener.socket.family == socket.AF_INET
        TCP.listen(listener.socket, ListenOptions())
        exchange(listener, ("127.0.0.1", listener.address.port))
    finally:
        listener.close()


def test_a_host_name_will_do() -> None:
    with listening("tcp://localhost:0") as listener:
        exchange(listener)
        exchange(listener, f"tcp://localhost:{listener.address.port}")


def test_a_host_name_may_begin_with_an_address_of_a_family_that_is_missing_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [*NOT_HERE, *found((socket.AF_INET, ("127.0.0.1", 0)))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with bound("tcp://localhost:0") as listener:
        assert listener.address.host == "127.0.0.1"


def test_a_host_name_without_any_address_of_this_machine_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: NOT_HERE)
    with pytest.raises(ListenError) as caught:
        bind(Address.parse("tcp://name:80"), ListenOptions())
    assert str(caught.value) == "tcp://name:80 is not an address of this machine"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: NOT_HERE[:1])
    with pytest.raises(ListenError) as caught:
        bind(Address.parse("tcp://name:80"), ListenOptions())
    assert str(caught.value) == "tcp://name:80 is of a kind that this machine does not support"
    with pytest.raises(ConnectError, match="cannot connect to tcp://name:80: "):
        connect("tcp://name:80")


def test_both_ends_send_small_replies_at_once() -> None:
    with listening("tcp://127.0.0.1:0") as listener, connect(listener.address) as near:
        far, _ = accept(listener)
        with far:
            for end in (near, far):
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("platform", ["linux", "elsewhere"])
def test_the_listener_does_not_block_and_what_it_accepts_does(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with listening("tcp://127.0.0.1:0") as listener:
        assert listener.socket.gettimeout() == 0
        with pytest.raises(BlockingIOError):
            TCP.accept(listener.socket)
        with connect(listener.address):
            far, _ = accept(listener)
            with far:
                assert far.gettimeout() is None
                assert os.get_blocking(far.fileno())
                assert far.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_listener_takes_the_port_of_connections_that_have_ended() -> None:
    with listening("tcp://127.0.0.1:0") as listener:
        port = listener.address.port
        with connect(listener.address) as near:
            far, _ = accept(listener)
            # Who closes first keeps the port for a while.
            far.close()
            near.settimeout(DEADLINE)
            assert near.recv(1) == b""
    with listening(("127.0.0.1", port)) as listener:
        assert listener.address.port == port


# -------------------------------------------------------------------- sentences


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who it is")
def test_a_port_in_use_is_a_sentence() -> None:
    with listening("tcp://127.0.0.1:0") as listener, pytest.raises(ListenError) as caught:
        bind(listener.address, ListenOptions())
    assert str(caught.value) == (
        f"{listener.address} is in use by this very process; choose another one"
    )
    assert caught.value.errno == errno.EADDRINUSE


@needs_ipv6
def test_an_ipv4_port_in_use_is_not_taken_by_every_interface() -> None:
    with listening("tcp://127.0.0.1:0") as listener:
        port = listener.address.port
        with pytest.raises(ListenError, match=f"tcp://:{port} is in use"):
            bind(Address.parse(f"tcp://:{port}"), ListenOptions())


def test_a_port_for_root_is_a_sentence() -> None:
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if lowest.exists() and int(lowest.read_text()) < 1024:
        pytest.skip("this machine has no ports for root alone")
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ListenError) as caught:
            bind(Address.parse("tcp://127.0.0.1:81"), ListenOptions())
    finally:
        if was == 0:
            os.seteuid(0)
    assert str(caught.value) == (
        "tcp://127.0.0.1:81 needs a permission that this user lacks; "
        "ports below 1024 are for root, so choose one above"
    )


@pytest.mark.parametrize(
    ("number", "place", "sentence"),
    [
        (errno.EACCES, "tcp://h:80", "lacks; ports below 1024 are for root, so choose one above"),
        (errno.EACCES, "tcp://h:8080", "tcp://h:8080 needs a permission that this user lacks"),
        (errno.EACCES, "unix:///x", "unix:///x needs a permission that this user lacks"),
        (errno.EPERM, "unix:///x", "unix:///x needs a permission that this user lacks"),
        (errno.EROFS, "unix:///x", "cannot listen at unix:///x: Read-only file system"),
    ],
)
def test_advice_fits_the_address(number: int, place: str, sentence: str) -> None:
    error = listen_error(Address.parse(place), OSError(number, os.strerror(number)))
    assert str(error).endswith(sentence)


def test_an_address_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(ListenError) as caught:
        bind(Address.parse("tcp://192.0.2.1:0"), ListenOptions())
    assert str(caught.value) == "tcp://192.0.2.1:0 is not an address of this machine"


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_an_unknown_host_is_a_sentence(host: str) -> None:
    for act in (
        lambda: bind(Address.parse(f"tcp://{host}:80"), ListenOptions()),
        lambda: connect(f"tcp://{host}:80"),
    ):
        with pytest.raises(AddressError) as caught:
            act()
        assert str(caught.value).startswith(f"cannot find the host of tcp://{host}:80: ")


def test_a_name_that_nobody_knows_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    with pytest.raises(AddressError) as caught:
        connect("tcp://nowhere.invalid:80")
    assert str(caught.value) == (
        "cannot find the host of tcp://nowhere.invalid:80: Name or service not known"
    )


def test_nobody_listens_is_a_sentence() -> None:
    with bound("tcp://127.0.0.1:0") as listener, pytest.raises(RefusedError) as caught:
        connect(listener.address)
    assert str(caught.value) == f"nobody listens at {listener.address}"
    assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (TimeoutError(), TimedOut, "no answer from tcp://h:80 within 0.5 s"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            RefusedError,
            "nobody listens at tcp://h:80",
        ),
        (FileNotFoundError(errno.ENOENT, "x"), RefusedError, "nobody listens at tcp://h:80"),
        (
            OSError(errno.ENETUNREACH, "No way"),
            ConnectError,
            "cannot connect to tcp://h:80: No way",
        ),
        (OSError("odd"), ConnectError, "cannot connect to tcp://h:80: odd"),
    ],
)
def test_what_a_connection_may_fail_of_is_a_sentence(
    error: OSError, kind: type[Exception], sentence: str
) -> None:
    made = connect_error(Address.parse("tcp://h:80"), error, 0.5)
    assert type(made) is kind
    assert str(made) == sentence


# -------------------------------------------------------------------- connecting


def test_a_client_may_choose_where_it_comes_from() -> None:
    with listening("tcp://127.0.0.1:0") as listener:
        with connect(listener.address, source="tcp://127.0.0.1:0") as near:
            assert near.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ConnectError, match=f"cannot connect to {listener.address} from 192"):
            connect(listener.address, source="tcp://192.0.2.1:0")


def test_a_connection_to_itself_is_nobody_who_listens() -> None:
    with bound("tcp://127.0.0.1:0") as listener:
        port = listener.address.port
    # From the very port that is called: TCP would let that succeed.
    with pytest.raises(ConnectError):
        connect(("127.0.0.1", port), source=f"tcp://127.0.0.1:{port}")


def test_a_socket_whose_peer_is_gone_is_not_its_own_peer() -> None:
    with socket.socket() as alone:
        assert not is_its_own_peer(alone)


def test_saying_the_last_word_to_a_peer_that_is_gone_is_harmless() -> None:
    with listening("tcp://127.0.0.1:0") as listener, connect(listener.address):
        far, _ = accept(listener)
        TCP.finish(far)
        TCP.close(far)
        TCP.finish(far)
        TCP.close(far)


def test_a_deadline_leaves_a_little_time_even_when_it_has_passed() -> None:
    assert remaining(0.0) == 0.001
    assert remaining(float("inf")) > DEADLINE


def test_a_listener_may_be_closed_twice() -> None:
    with listening("tcp://127.0.0.1:0") as listener:
        listener.close()
        listener.close()
        assert listener.fileno() == -1


def test_only_a_server_can_use_an_inherited_socket() -> None:
    with pytest.raises(AddressError) as caught:
        transport_of(Address.parse("fd://3"))
    assert str(caught.value) == "fd://3 names an inherited socket; nobody can connect to that"


def test_a_transport_of_ones_own_owes_bind_connect_and_a_name() -> None:
    address = Address()
    transport = Transport()
    for act in (
        lambda: transport.bind(address, ListenOptions()),
        lambda: transport.connect(address, 1.0, None),
        lambda: transport.peer_name(None, None),
    ):
        with pytest.raises(NotImplementedError):
            act()
