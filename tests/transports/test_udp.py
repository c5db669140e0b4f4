from __future__ import annotations

import socket

import pytest

from echoframe.address import Address
from echoframe.errors import AddressError, ListenError
from echoframe.transports import TRANSPORTS, ListenOptions, bind
from echoframe.transports.udp import LARGEST_DATAGRAM

from .sockets import DEADLINE, accept, listening, needs_ipv6

UDP = TRANSPORTS["udp"]


def test_a_datagram_is_a_request_with_the_socket_that_answers_it() -> None:
    with listening("udp://127.0.0.1:0") as listener:
        assert str(listener.address) == f"udp://127.0.0.1:{listener.address.port}"
        assert UDP.datagrams
        with UDP.connect(listener.address, DEADLINE, None) as near:
            for message in (b"hello", b"", b"x" * 60_000):
                near.send(message)
                (data, sock), client_address = accept(listener)
                assert (data, sock) == (message, listener.socket)
                sock.sendto(data[:10], client_address)
                assert near.recv(LARGEST_DATAGRAM) == message[:10]
            host, port = near.getsockname()
            assert UDP.peer_name((data, sock), client_address) == f"{host}:{port}"


def test_one_peers_end_leaves_the_socket_to_the_others() -> None:
    with listening("udp://127.0.0.1:0") as listener:
        with UDP.connect(listener.address, DEADLINE, None) as near:
            near.send(b"one")
            request, _ = accept(listener)
            UDP.finish(request)
            UDP.close(request)
            near.send(b"two")
            assert accept(listener)[0][0] == b"two"
        with pytest.raises(BlockingIOError):
            UDP.accept(listener.socket)


@needs_ipv6
def test_an_empty_host_is_every_interface_of_both_families() -> None:
    with listening("udp://:0") as listener:
        for host in ("127.0.0.1", "[::1]"):
            near = UDP.connect(
                Address.parse(f"udp://{host}:{listener.address.port}"), DEADLINE, None
            )
            with near:
                near.send(b"hello")
                (data, sock), client_address = accept(listener)
                assert data == b"hello"
                assert UDP.peer_name((data, sock), client_address).startswith(f"{host}:")
                sock.sendto(b"back", client_address)
                assert near.recv(100) == b"back"


def test_two_servers_do_not_share_a_port() -> None:
    with listening("udp://127.0.0.1:0") as listener:
        address = listener.address
        with pytest.raises(ListenError, match=f"{address} is in use"):
            bind(address, ListenOptions())


def test_the_same_port_number_is_free_for_tcp() -> None:
    with listening("udp://127.0.0.1:0") as listener:
        assert listener.socket.type == socket.SOCK_DGRAM
        assert listener.address != Address.parse(("127.0.0.1", listener.address.port))


def test_an_unknown_host_is_a_sentence() -> None:
    with pytest.raises(AddressError, match=r"cannot find the host of udp://a\.\.b:80: "):
        UDP.connect(Address.parse("udp://a..b:80"), DEADLINE, None)
