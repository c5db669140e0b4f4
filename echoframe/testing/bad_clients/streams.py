"""Bad clients of connections: tcp, tls and unix. (Some say the same in datagrams.)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

from .animal import EVERYWHERE, STREAMS, animal
from .leash import CHUNK, STUCK, Leash

__all__ = ["ANIMALS"]

# How many bytes a dawdler sends.
DRIPS = 5

# Line ends would make messages of it.
CONTROLS = bytes(number for number in range(32) if number not in (10, 13)) + b"\x7f"

NOT_UTF8 = (
    # A continuation without a beginning, and a beginning without one.
    b"\x80\xbf",
    b"caf\xe9",
    # "/" in two bytes, a half of a pair, beyond the last letter, bytes that never occur.
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xfe\xff",
)

TERMINAL = (
    # Clear the screen, set the title, ask for what is typed next.
    b"\x1b[2J\x1b[H",
    b"\x1b]0;owned\x07",
    b"\x1b[6n\x9b6n",
    # A line that writes itself over.
    b"innocent\rforged\x08\x08",
)


@animal(
    STREAMS,
    "connects and never says a word, many times over",
    "serves the others meanwhile, and should end it at a timeout",
)
def silent(leash: Leash) -> Iterator[None]:
    leash.crowd(leash.many)
    yield


@animal(
    STREAMS,
    "says the first half of a message and falls silent, many times over",
    "serves the others meanwhile, should keep the halves within bounds and end it at a timeout",
)
def half_open(leash: Leash) -> Iterator[None]:
    leash.crowd(leash.many, leash.half)
    yield


@animal(
    STREAMS,
    "says one byte at a time, with a pause behind each",
    "serves the others meanwhile, and should give it no thread to keep for itself",
)
def drip(leash: Leash) -> Iterator[None]:
    peers = leash.crowd(max(leash.many // 4, 1))
    for number in leash.times(DRIPS):
        byte = leash.half[number : number + 1] or b"x"
        for peer in peers:
            peer.say(byte, stuck=0.0)
        yield
        leash.pause()


@animal(
    STREAMS,
    "ends its side before it has said a word",
    "ends its own side as well",
)
def half_close_before(leash: Leash) -> Iterator[None]:
    peer = leash.connect()
    peer.finish()
    yield
    leash.must_end(peer)


@animal(
    STREAMS,
    "ends its side in the middle of a message",
    "does not wait for the rest, and ends its own side",
)
def half_close_in(leash: Leash) -> Iterator[None]:
    peer = leash.connect()
    peer.say(leash.half)
    peer.finish()
    yield
    leash.must_end(peer)


@animal(
    STREAMS,
    "ends its side right behind a message",
    "answers the message, and then ends its own side",
)
def half_close_after(leash: Leash) -> Iterator[None]:
    peer = leash.connect()
    peer.say(leash.message)
    peer.finish()
    yield
    leash.must_reply(peer)
    leash.must_end(peer)


@animal(
    STREAMS,
    "breaks off before it has said a word",
    "takes it for a peer that is gone",
)
def reset_before(leash: Leash) -> Iterator[None]:
    for _ in leash.times(leash.few):
        leash.connect().reset()
    yield


@animal(
    STREAMS,
    "breaks off in the middle of a message",
    "should forget the half",
)
def reset_in(leash: Leash) -> Iterator[None]:
    for _ in leash.times(leash.few):
        peer = leash.connect()
        peer.say(leash.half)
        peer.reset()
    yield


@animal(
    STREAMS,
    "breaks off while a long reply is being sent to it",
    "should give the rest of the reply up, and lose nothing else",
)
def reset_reply(leash: Leash) -> Iterator[None]:
    for _ in leash.times(min(leash.few, 5)):
        peer = leash.connect(small=True)
        messages = repeat(leash.long_message, 256)
        if leash.healthy.only_connect:
            peer.say(messages, STUCK)
        else:
            peer.pump(messages, lambda peer=peer: peer.size > 0, leash.healthy.within)  # type: ignore[misc]
        peer.reset()
    yield


@animal(
    STREAMS,
    "breaks off when it has its reply",
    "takes it for a peer that is gone",
)
def reset_after(leash: Leash) -> Iterator[None]:
    for _ in leash.times(leash.few):
        peer = leash.connect()
        peer.say(leash.message)
        leash.must_reply(peer)
        peer.reset()
    yield


@animal(
    STREAMS,
    "sends a message of many MiB, and reads what comes back",
    "answers it or hangs up, and should keep no more of it than its limit",
)
def giant(leash: Leash) -> Iterator[None]:
    peer = leash.connect()
    peer.pump(chain(leash.pieces(b"x" * CHUNK), [b"\n"]))
    yield
    peer.finish()
    leash.must_end(peer)


@animal(
    STREAMS,
    "sends many MiB without the end of a line, reads nothing, and stays",
    "should hang up or stop reading when a message is too long",
)
def no_line_end(leash: Leash) -> Iterator[None]:
    taken = leash.connect().say(leash.pieces(b"x" * CHUNK), STUCK)
    leash.note_taken(taken)
    yield


@animal(
    STREAMS,
    "comes with many connections in the same instant, asks on each, and leaves with all at once",
    "lets them in as it can, and is not out of breath when they are gone",
)
def flood(leash: Leash) -> Iterator[None]:
    leash.crowd(leash.many, leash.message)
    yield


@animal(
    STREAMS,
    "connects and closes at once, ten times as many times",
    "takes them for peers that are gone, and should have every descriptor back",
)
def connect_and_close(leash: Leash) -> Iterator[None]:
    for number in leash.times(10 * leash.many):
        leash.bare().close()
        if number == 5 * leash.many:
            yield
    yield


@animal(
    STREAMS,
    "asks for many MiB and never reads",
    "should stop answering, and keep no more than a buffer for it",
)
def never_reads(leash: Leash) -> Iterator[None]:
    taken = leash.connect(small=True).say(leash.pieces(leash.long_message), STUCK)
    leash.note_taken(taken)
    yield


@animal(
    STREAMS,
    "says close, and a hundred messages in the same breath",
    "ends the conversation, and should answer nothing behind the word",
)
def after_close(leash: Leash) -> Iterator[None]:
    peer = leash.connect()
    peer.pump(b"close\n" + leash.message * 100)
    yield
    peer.finish()
    leash.must_end(peer)


def _talk(leash: Leash, messages: Iterable[bytes]) -> Iterator[None]:
    peer = leash.connect()
    peer.pump(message + b"\n" for message in messages)
    yield
    peer.finish()
    leash.must_end(peer)


@animal(
    EVERYWHERE,
    "says what is no UTF-8",
    "answers or hangs up, and should decode nothing that it cannot",
)
def invalid_utf8(leash: Leash) -> Iterator[None]:
    return _talk(leash, NOT_UTF8)


@animal(
    EVERYWHERE,
    "says every value that a byte can have, sixteen at a time and all together",
    "answers or hangs up",
)
def every_byte(leash: Leash) -> Iterator[None]:
    values = bytes(range(256))
    return _talk(leash, [*(values[row : row + 16] for row in range(0, 256, 16)), values])


@animal(
    EVERYWHERE,
    "says control characters, and what terminals obey",
    "answers or hangs up, and should write none of them into its log as they are",
)
def controls(leash: Leash) -> Iterator[None]:
    return _talk(leash, [CONTROLS, *TERMINAL])


ANIMALS = (
    silent,
    half_open,
    drip,
    half_close_before,
    half_close_in,
    half_close_after,
    reset_before,
    reset_in,
    reset_reply,
    reset_after,
    giant,
    no_line_end,
    flood,
    connect_and_close,
    never_reads,
    after_close,
    invalid_utf8,
    every_byte,
    controls,
)
