"""The address parser: whatever it is given, an Address or one sentence."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import example, given
from hypothesis import strategies as st

from echoframe.address import SCHEMES, Address
from echoframe.errors import AddressError

from .inputs import text

schemes = st.sampled_from([*(f"{scheme}://" for scheme in SCHEMES), "", "://", "tpc://", "TCP://"])
hosts = st.sampled_from(["", "h", "127.0.0.1", "::1", "[::1]", "[fe80::1%eth0]", "[", "]", "@n"])
ports = st.integers(-2, 70_000).map(":{}".format) | text(4)
places = text() | st.builds("{}{}{}".format, schemes, hosts | text(8), ports)
long = st.builds("{}{}".format, schemes, st.integers(100, 120).map("é".__mul__))

anything = st.one_of(
    st.none(), st.integers(), st.binary(max_size=5), st.floats(), text(5), st.lists(text(3))
)
numbers = st.integers(-1, 70_000) | st.integers() | anything
pairs = st.one_of(
    st.tuples(hosts | text(8), numbers),
    st.tuples(hosts | text(8), numbers, numbers, numbers),
    st.lists(anything, max_size=5).map(tuple),
)


def check(place: Any) -> Address | None:
    """The address that comes of it; or make sure that it was refused as promised."""
    refused = None
    try:
        address = Address.parse(place)
    except AddressError as error:
        refused = str(error)
    if refused is not None:
        assert refused.isprintable()
        assert not isinstance(place, str) or repr(place) in refused
        return None
    assert Address.parse(str(address)) == address
    assert hash(Address.parse(str(address))) == hash(address)
    assert Address.parse(address) is address
    assert 0 <= address.port <= 65535
    # Bytes of a path that are not UTF-8 are surrogates, which nobody obeys.
    assert not any(letter in str(address) for letter in "\0\n\r\t\x07\x1b\x7f\x85\x9b\u2028")
    assert repr(address) == f"Address.parse({str(address)!r})"
    return address


@given(places | long)
@example("unix:///tmp/\x1b[2J")
@example("unix:///tmp/a\nforged line")
@example("unix://\udcff")
def test_any_text_is_an_address_or_a_sentence_with_the_text_in_it(place: str) -> None:
    address = check(place)
    if address is not None and address.scheme in ("tcp", "tls", "udp"):
        # As programs of socketserver say it.
        assert check((address.host, address.port)) == Address("tcp", address.host, address.port)


@given(pairs | anything)
@example(("[h", 80))
@example(("a:b]", 80))
@example(("h", 10**5000))
@example((10**5000,))
@example(10**5000)
@example(("h", 80, 0, "\x1b"))
def test_any_object_is_an_address_or_a_sentence(place: Any) -> None:
    check(place)


class Loud:
    """An object that says something that nobody should."""

    def __repr__(self) -> str:
        return "first line\n\x1b[31msecond line"


@pytest.mark.parametrize("place", [Loud(), ("h", Loud()), (Loud(), 80), ("h", 80, 0, Loud())])
def test_what_an_object_says_of_itself_is_on_one_line(place: Any) -> None:
    check(place)


@given(st.binary(max_size=20) | text().filter(lambda path: "\0" not in path))
@example("/tmp/\x1b[2Jforged\n")
def test_what_a_peer_calls_its_end_reaches_no_log_raw(name: Any) -> None:
    address = Address.of(name, socket.AF_UNIX)
    for word in (address.name, str(address), repr(address)):
        assert not set(word) & set("\n\r\t\x07\x1b\x7f\x85\x9b\u2028")
