"""Bad clients of TLS: those who speak it wrongly, or to somebody who does not."""

from __future__ import annotations

from collections.abc import Iterator

from ...transports.certificates import client_context
from .animal import animal
from .leash import Leash

__all__ = ["ANIMALS"]


def hello() -> bytes:
    """The first word of a TLS client."""
    import ssl

    context = client_context(False)
    said, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(heard, said, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        # It waits for an answer, which nobody will give it.
        pass
    return said.read()


@animal(
    ("tls",),
    "connects and never shakes hands, many times over",
    "serves the others meanwhile, and should end it at a timeout",
)
def no_handshake(leash: Leash) -> Iterator[None]:
    leash.crowd(leash.many, bare=True)
    yield


@animal(
    ("tls",),
    "begins to shake hands and falls silent, many times over",
    "serves the others meanwhile, and should end it at a timeout",
)
def half_handshake(leash: Leash) -> Iterator[None]:
    leash.crowd(leash.many, hello()[:50], bare=True)
    yield


@animal(
    ("tls",),
    "breaks off in the middle of the handshake",
    "takes it for a peer that is gone",
)
def reset_handshake(leash: Leash) -> Iterator[None]:
    word = hello()
    for number in leash.times(leash.few):
        peer = leash.bare()
        peer.say(word)
        if number % 2:
            # Not always before the server has answered.
            peer.pump(until=lambda peer=peer: peer.size > 0, within=leash.healthy.within)  # type: ignore[misc]
        peer.reset()
    yield


@animal(
    ("tls",),
    "speaks plainly where TLS is spoken",
    "ends the conversation",
)
def plain_to_tls(leash: Leash) -> Iterator[None]:
    peer = leash.bare()
    peer.say(leash.message)
    peer.finish()
    yield
    leash.must_end(peer)


@animal(
    ("tcp",),
    "speaks TLS where nobody does",
    "takes it for the nonsense that it is, and ends the conversation with its peer",
)
def tls_to_plain(leash: Leash) -> Iterator[None]:
    peer = leash.bare()
    peer.pump(hello())
    yield
    peer.finish()
    leash.must_end(peer)


ANIMALS = (no_handshake, half_handshake, reset_handshake, plain_to_tls, tls_to_plain)
