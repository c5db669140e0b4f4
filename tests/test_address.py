from __future__ import annotations

import copy
import pickle
import socket
from typing import Any

import pytest

from echoframe.address import DEFAULT_HOST, DEFAULT_PORT, Address
from echoframe.errors import AddressError


@pytest.mark.parametrize(
    ("place", "text", "parts"),
    [
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80", ("tcp", "127.0.0.1", 80, "")),
        ("127.0.0.1:80", "tcp://127.0.0.1:80", ("tcp", "127.0.0.1", 80, "")),
        ("localhost", "tcp://localhost:7007", ("tcp", "localhost", 7007, "")),
        ("tcp://localhost", "tcp://localhost:7007", ("tcp", "localhost", 7007, "")),
        (":80", "tcp://:80", ("tcp", "", 80, "")),
        ("tcp://:0", "tcp://:0", ("tcp", "", 0, "")),
        ("tcp://h:00080", "tcp://h:80", ("tcp", "h", 80, "")),
        ("tcp://h:65535", "tcp://h:65535", ("tcp", "h", 65535, "")),
        ("tcp://[::1]:0", "tcp://[::1]:0", ("tcp", "::1", 0, "")),
        ("[::1]", "tcp://[::1]:7007", ("tcp", "::1", 7007, "")),
        ("[fe80::1%eth0]:80", "tcp://[fe80::1%eth0]:80", ("tcp", "fe80::1%eth0", 80, "")),
        ("tcp://bücher.example:80", "tcp://bücher.example:80", ("tcp", "bücher.example", 80, "")),
        ("tls://127.0.0.1:80", "tls://127.0.0.1:80", ("tls", "127.0.0.1", 80, "")),
        ("tls://localhost", "tls://localhost:7007", ("tls", "localhost", 7007, "")),
        ("tls://:0", "tls://:0", ("tls", "", 0, "")),
        ("tls://[::1]:80", "tls://[::1]:80", ("tls", "::1", 80, "")),
        ("udp://127.0.0.1:80", "udp://127.0.0.1:80", ("udp", "127.0.0.1", 80, "")),
        ("udp://:80", "udp://:80", ("udp", "", 80, "")),
        ("udp://[::]:80", "udp://[::]:80", ("udp", "::", 80, "")),
        ("unix:///run/x.sock", "unix:///run/x.sock", ("unix", "", 0, "/run/x.sock")),
        ("unix://x.sock", "unix://x.sock", ("unix", "", 0, "x.sock")),
        ("unix://@name", "unix://@name", ("unix", "", 0, "@name")),
        ("unix:///a b:c", "unix:///a b:c", ("unix", "", 0, "/a b:c")),
        ("unix:///\udcff", "unix:///\udcff", ("unix", "", 0, "/\udcff")),
        ("unix://" + "x" * 107, "unix://" + "x" * 107, ("unix", "", 0, "x" * 107)),
        ("fd://3", "fd://3", ("fd", "", 0, "3")),
        ("fd://03", "fd://3", ("fd", "", 0, "3")),
        (("127.0.0.1", 80), "tcp://127.0.0.1:80", ("tcp", "127.0.0.1", 80, "")),
        (("", 0), "tcp://:0", ("tcp", "", 0, "")),
        (("::1", 80), "tcp://[::1]:80", ("tcp", "::1", 80, "")),
        (("::1", 80, 0, 0), "tcp://[::1]:80", ("tcp", "::1", 80, "")),
        (("fe80::1", 80, 0, 2), "tcp://[fe80::1%2]:80", ("tcp", "fe80::1%2", 80, "")),
        (("fe80::1%lo", 80, 0, 1), "tcp://[fe80::1%lo]:80", ("tcp", "fe80::1%lo", 80, "")),
    ],
)
def test_every_form_is_read_and_written_back(
    place: Any, text: str, parts: tuple[str, str, int, str]
) -> None:
    address = Address.parse(place)
    assert (address.scheme, address.host, address.port, address.path) == parts
    assert str(address) == text
    assert Address.parse(text) == address
    assert Address.parse(address) is address
    assert repr(address) == f"Address.parse({text!r})"


def test_without_words_it_is_loopback_at_the_usual_port() -> None:
    assert str(Address()) == f"tcp://{DEFAULT_HOST}:{DEFAULT_PORT}" == "tcp://127.0.0.1:7007"


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("", "'' names no place; write it as in tcp://127.0.0.1:7007"),
        ("tcp://", "'tcp://' names no place"),
        ("tls://", "'tls://' names no place"),
        ("udp://", "'udp://' names no place"),
        ("tcp://h:", "'tcp://h:': '' is not a port number"),
        ("h:http", "'h:http': 'http' is not a port number"),
        ("h:-1", "'-1' is not a port number"),
        ("h:80/", "'80/' is not a port number"),
        ("h:٣", "'٣' is not a port number"),
        ("h:" + "0" * 9 + "80", "'00000000080' is not a port number"),
        ("h:" + "9" * 5000, "is not a port number"),
        ("h:65536", "'h:65536': port 65536 is not between 0 and 65535"),
        ("7007", "'7007' is a port without a colon; write it as in :7007"),
        ("tcp://7007", "'tcp://7007' is a port without a colon"),
        ("::1", "'::1': write an IPv6 address in brackets, as in [::1]:7007"),
        ("fe80::1:80", "write an IPv6 address in brackets"),
        ("[::1", "'[::1': write an IPv6 address and its port as in [::1]:7007"),
        ("[::1]80", "write an IPv6 address and its port as in [::1]:7007"),
        ("[::1]:", "'' is not a port number"),
        ("[h]:80", "'[h]:80': 'h' in brackets is not an IPv6 address"),
        ("[]:80", "'' in brackets is not an IPv6 address"),
        ("/run/x.sock", "'/run/x.sock' is not a host name"),
        ("me@h:80", "'me@h' is not a host name"),
        ("a b:80", "'a b' is not a host name"),
        ("a\0b:80", "'a\\x00b' is not a host name"),
        ("tcp://h/", "'h/' is not a host name"),
        ("unix:/run/x", "'/run/x' is not a port number"),
        ("tpc://h:80", "unknown scheme 'tpc' in 'tpc://h:80'; did you mean 'tcp'? known: fd, tcp,"),
        ("http://h:80", "unknown scheme 'http' in 'http://h:80'; "),
        ("://h", "unknown scheme '' in '://h'; known: "),
        ("unix://", "'unix://' names no path; write it as in unix:///tmp/echo.sock"),
        ("unix://@", "'unix://@' names no path"),
        ("unix://a\0b", "a path cannot hold a zero byte"),
        ("unix:///" + "x" * 107, "the path is longer than the 107 bytes"),
        ("unix:///" + "é" * 54, "the path is longer than the 107 bytes"),
        ("unix:///\ud800", "that path cannot be written in UTF-8"),
        ("fd://", "'fd://': '' is not a file descriptor's number"),
        ("fd://x", "'x' is not a file descriptor's number"),
        ("fd://-1", "'-1' is not a file descriptor's number"),
        ("fd://²", "'²' is not a file descriptor's number"),
        ("fd://" + "9" * 10, "is not a file descriptor's number"),
        (None, "None is not an address; write it as in tcp://127.0.0.1:7007"),
        (7007, "7007 is not an address"),
        (b"h:80", "b'h:80' is not an address"),
        (("h",), "('h',) is not a (host, port) pair"),
        (("h", 80, 0), "('h', 80, 0) is not a (host, port) pair"),
        ((b"h", 80), "(b'h', 80) is not a (host, port) pair"),
        (("h", "80"), "the port in ('h', '80') is not a number"),
        (("h", True), "the port in ('h', True) is not a number"),
        (("h", -1), "('h', -1): port -1 is not between 0 and 65535"),
        (("a/b", 80), "'a/b' is not a host name"),
    ],
)
def test_every_bad_form_is_one_sentence_with_the_value_in_it(place: Any, sentence: str) -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse(place)
    assert isinstance(caught.value, ValueError)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    if isinstance(place, str):
        assert repr(place) in str(caught.value)


def test_addresses_are_equal_when_their_text_is() -> None:
    assert Address.parse("127.0.0.1:80") == Address.parse(("127.0.0.1", 80))
    assert hash(Address.parse("127.0.0.1:80")) == hash(Address.parse("tcp://127.0.0.1:80"))
    assert Address.parse("tcp://h:80") != Address.parse("udp://h:80")
    assert Address.parse("tcp://h:80") != "tcp://h:80"


def test_an_address_cannot_be_changed_but_copied() -> None:
    address = Address.parse("tcp://[::1]:80")
    with pytest.raises(AttributeError, match="an Address cannot be changed"):
        address.port = 81
    assert address.port == 80
    for again in (
        copy.copy(address),
        copy.deepcopy(address),
        pickle.loads(pickle.dumps(address)),
    ):
        assert again == address
        assert again.port == 80


@pytest.mark.parametrize(
    ("name", "family", "kind", "text"),
    [
        (("127.0.0.1", 80), socket.AF_INET, socket.SOCK_STREAM, "tcp://127.0.0.1:80"),
        (("127.0.0.1", 80), socket.AF_INET, socket.SOCK_DGRAM, "udp://127.0.0.1:80"),
        (("::1", 80, 0, 0), socket.AF_INET6, socket.SOCK_STREAM, "tcp://[::1]:80"),
        (("fe80::1", 80, 0, 2), socket.AF_INET6, socket.SOCK_STREAM, "tcp://[fe80::1%2]:80"),
        (("::ffff:10.0.0.1", 80, 0, 0), socket.AF_INET6, socket.SOCK_STREAM, "tcp://10.0.0.1:80"),
        (("::ffff:1:2", 80, 0, 0), socket.AF_INET6, socket.SOCK_STREAM, "tcp://[::ffff:1:2]:80"),
        ("/run/x", socket.AF_UNIX, socket.SOCK_STREAM, "unix:///run/x"),
        (b"\0name", socket.AF_UNIX, socket.SOCK_STREAM, "unix://@name"),
        (b"/run/x", socket.AF_UNIX, socket.SOCK_STREAM, "unix:///run/x"),
        ("", socket.AF_UNIX, socket.SOCK_STREAM, "unix://"),
    ],
)
def test_what_the_kernel_calls_a_place_is_an_address(
    name: Any, family: int, kind: int, text: str
) -> None:
    assert str(Address.of(name, family, kind)) == text


def test_an_abstract_name_begins_with_a_zero_byte_for_the_kernel() -> None:
    assert Address.parse("unix://@name").sockaddr_un == "\0name"
    assert Address.parse("unix:///run/x").sockaddr_un == "/run/x"
