from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from echoframe import Handler
from echoframe.compare.load import Load
from echoframe.compare.plan import CheckFailed, Exchange, Group, Plan, Tally
from echoframe.compare.workload import CHURN, CROWD, HOLD, SIP, TALK
from echoframe.testing import running
from tests.certificates import Certificates
from tests.helpers import DEADLINE, eventually

MESSAGE = b"0123456789abcdef" * 4
ECHO = Exchange(MESSAGE, MESSAGE, MESSAGE)


def measure(plan: Plan) -> Tally:
    load = Load(plan)
    try:
        load.prepare()
        tally = load.measure()
    finally:
        load.close()
    if tally.messages or tally.errors or plan.seconds > 2:
        return tally
    # This machine stood still for so long.
    return measure(replace(plan, seconds=4 * plan.seconds))


def plan_of(address: object, *groups: Group, **others: object) -> Plan:
    settings: dict[str, object] = {"seconds": 0.05, "warmup": 0.01, "settle": 0.1, **others}
    return Plan(str(address), groups, **settings)  # type: ignore[arg-type]  # see the tests


ways = pytest.mark.parametrize("way", [TALK, CHURN, CROWD, HOLD])


@ways
@pytest.mark.parametrize("transport", ["tcp", "unix", "udp"])
def test_every_way_over_every_transport(way: str, transport: str) -> None:
    with running("echo", "thread", transport) as up:
        tally = measure(plan_of(up.address, Group(4, way, (ECHO,), tagged=True)))
    assert tally.messages > 0
    assert tally.latency.total == tally.messages
    assert not tally.errors
    assert tally.unserved == 0
    assert 0 < tally.latency.longest < DEADLINE


@ways
def test_every_way_over_tls(way: str, certificates: Certificates) -> None:
    settings = certificates.settings
    with running("echo", "thread", "tls", **settings) as up:
        place = str(up.address).replace("127.0.0.1", "localhost")
        tally = measure(plan_of(place, Group(3, way, (ECHO,)), ca=str(certificates.ca)))
    assert tally.messages > 0
    assert not tally.errors


def test_large_replies_come_in_pieces() -> None:
    large = bytes(range(256)) * 4096
    with running("echo") as up:
        tally = measure(plan_of(up.address, Group(2, TALK, (Exchange(large, large),))))
    assert tally.messages > 0
    assert not tally.errors


def test_several_messages_take_turns() -> None:
    words = tuple(Exchange(b"%d\n" % one, b"%d\n" % one) for one in range(3))
    with running("upper") as up:
        tally = measure(plan_of(up.address, Group(1, TALK, words)))
        ahead = measure(plan_of(up.address, Group(1, TALK, words, pipeline=7)))
    assert tally.messages > 3
    assert ahead.messages > 7
    assert not tally.errors + ahead.errors


def test_replies_that_nobody_knows_end_where_the_framing_says() -> None:
    def answer(message: bytes) -> bytes:
        return message + b"!" * len(message)

    words = (Exchange(b"ab\n", None, b"ab"),)
    with running(answer) as up:
        for pipeline in (1, 4):
            tally = measure(plan_of(up.address, Group(2, TALK, words, pipeline=pipeline)))
            assert tally.messages > 0
            assert not tally.errors


def test_what_the_load_did_not_read_in_time_is_not_the_servers_delay() -> None:
    stood = 0.2
    with running("echo", "thread") as up:
        load = Load(plan_of(up.address, Group(4, TALK, (ECHO,))))
        try:
            load.prepare()
            time.sleep(stood)
            tally = load.measure()
        finally:
            load.close()
    assert tally.messages > 0
    assert tally.latency.longest < stood


def test_what_a_plan_never_sent_is_told() -> None:
    with running("echo", "loop") as up:
        tally = measure(plan_of(up.address, Group(2, TALK, (ECHO,)), rate=1e6, patience=0.1))
    assert tally.errors["unsent"] > 0
    assert tally.latency.total + tally.errors["unsent"] > 1e6 * tally.seconds / 2
    assert tally.busy > 0
    # Those that came late are not counted, and took time all the same.
    assert tally.took > tally.seconds
    assert tally.latency.total > tally.messages


def raises(message: bytes, reply: bytes) -> bool:
    # The loop knows a KeyError of its own.
    raise KeyError(message)


def test_a_check_that_raises_is_no_ones_error_but_its_own() -> None:
    unknown = replace(ECHO, reply=None)
    check = "tests.compare.test_load:raises"
    with running("echo") as up, pytest.raises(CheckFailed, match="test_load:raises has raised Key"):
        measure(plan_of(up.address, Group(2, TALK, (unknown,)), check=check, framing="raw"))


def right(message: bytes, reply: bytes) -> bool:
    return reply == message.upper()


def wrong(message: bytes, reply: bytes) -> bool:
    return reply != message.upper()


@pytest.mark.parametrize(("check", "fails"), [("right", False), ("wrong", True)])
def test_a_check_sees_message_and_reply(check: str, fails: bool) -> None:
    words = (Exchange(b"ab\n", None, b"ab"),)
    path = f"tests.compare.test_load:{check}"
    with running("upper") as up:
        tally = measure(plan_of(up.address, Group(1, TALK, words), check=path))
    assert (tally.errors["wrong"] > 0) is fails


def test_a_greeting_is_no_reply() -> None:
    from echoframe import Handler

    class Greets(Handler):
        def on_open(self) -> bytes:
            return b"welcome"

        def on_message(self, message: bytes) -> bytes:
            return message

    words = (Exchange(b"ab\n", b"ab\n"),)
    with running(Greets) as up:
        for way in (TALK, CHURN):
            tally = measure(plan_of(up.address, Group(2, way, words), greetings=1))
            assert tally.messages > 0
            assert not tally.errors


def test_who_thinks_asks_less() -> None:
    with running("echo") as up:
        slow = measure(plan_of(up.address, Group(1, TALK, (ECHO,), think=0.01)))
        assert 0 < slow.messages <= 6
        quick = plan_of(up.address, Group(1, TALK, (ECHO,)))
        # Not at the first try where others have the processor for all of that time.
        eventually(lambda: measure(quick).messages > slow.messages)


def test_slow_readers_get_all_and_are_not_counted() -> None:
    large = bytes(range(256)) * 256
    groups = (
        Group(2, SIP, (Exchange(large, large),), measured=False),
        Group(2, TALK, (ECHO,)),
    )
    with running("echo") as up:
        load = Load(plan_of(up.address, *groups, seconds=0.1))
        load.prepare()
        tally = load.measure()
        load.close()
    assert not tally.errors
    assert len(tally.each) == 2
    assert all(client.served for client in load.clients)


def test_a_crowd_comes_at_once_and_its_moments_are_told() -> None:
    with running("wait") as up:
        tally = measure(plan_of(up.address, Group(5, CROWD, (Exchange(b"20\n", b"20\n"),))))
    assert tally.messages == 5
    assert len({moment.port for moment in tally.moments}) == 5
    for moment in tally.moments:
        assert moment.replied is not None
        assert moment.replied - moment.came >= 0.02
    assert tally.seconds >= 0.02


def test_who_waits_in_the_backlog_is_unserved_and_no_error() -> None:
    with running("echo", "single") as up:
        tally = measure(plan_of(up.address, Group(4, TALK, (ECHO,))))
    assert tally.unserved == 3
    assert tally.messages > 0
    assert not tally.errors
    assert sorted(tally.each)[:3] == [0, 0, 0]


# ------------------------------------------------------------------- an open loop


@pytest.mark.parametrize("way", [TALK, CHURN])
def test_a_plan_is_kept(way: str) -> None:
    with running("echo") as up:
        plan = plan_of(up.address, Group(4, way, (ECHO,)), rate=400.0, seconds=0.5)
        tally = measure(plan)
    # Poisson's: 200 and 14 is its deviation.
    assert 130 < tally.latency.total < 270
    assert tally.from_send.total == tally.latency.total
    assert not tally.errors


# One client and a server that takes 20 ms: whoever comes meanwhile has to wait for it,
# and that is what a closed loop does not see.
def test_latency_counts_from_the_planned_moment() -> None:
    words = (Exchange(b"20\n", b"20\n"),)
    with running("wait") as up:
        tally = measure(plan_of(up.address, Group(1, TALK, words), rate=100.0, seconds=0.3))
    assert tally.latency.longest > 3 * tally.from_send.longest > 0.05


# ------------------------------------------------------------------- what is wrong


@contextlib.contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of a few lines, which may be wrong in any way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.settimeout(DEADLINE)
                        with contextlib.suppress(OSError):
                            talk(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)


def one_by_one(peer: socket.socket) -> None:
    while data := peer.recv(1000):
        for byte in data:
            peer.sendall(bytes([byte]))
            time.sleep(0)


def test_a_reply_byte_by_byte_is_the_same_reply() -> None:
    with serving(one_by_one) as place:
        tally = measure(plan_of(place, Group(1, TALK, (ECHO,), tagged=True)))
    assert tally.messages > 0
    assert not tally.errors


@pytest.mark.parametrize("way", [TALK, CHURN])
def test_who_is_served_first_waits_for_the_others(way: str) -> None:
    heard: list[bytes] = []

    class ForTwo(Handler):
        framing = "raw"

        def on_message(self, message: bytes) -> bytes | None:
            if message.startswith(b"00000002"):
                return None
            heard.append(message)
            return message

    with running(ForTwo, "thread") as up:
        load = Load(plan_of(up.address, Group(3, way, (ECHO,), tagged=True), warmup=0.0))
        try:
            assert load.prepare() == 2
        finally:
            load.close()
    # Once each, and once more when it was over.
    assert len(heard) <= 4


def test_one_wrong_byte_is_noticed() -> None:
    def talk(peer: socket.socket) -> None:
        turn = 0
        while data := peer.recv(1000):
            turn += 1
            peer.sendall(data if turn % 5 else data[:-1] + bytes([data[-1] ^ 1]))

    with serving(talk) as place:
        tally = measure(plan_of(place, Group(1, TALK, (ECHO,), tagged=True)))
    assert tally.errors["wrong"] > 0
    assert tally.messages > 0


def test_the_reply_to_the_message_before_is_wrong() -> None:
    def talk(peer: socket.socket) -> None:
        before = peer.recv(1000)
        peer.sendall(before)
        while data := peer.recv(1000):
            peer.sendall(before)
            before = data

    with serving(talk) as place:
        tally = measure(plan_of(place, Group(1, TALK, (ECHO,), tagged=True)))
    assert tally.errors["wrong"] > 0
    assert tally.messages == 0


def test_a_server_that_hangs_up_is_noticed() -> None:
    def talk(peer: socket.socket) -> None:
        peer.sendall(peer.recv(1000))
        peer.recv(1000)

    with serving(talk) as place:
        tally = measure(plan_of(place, Group(1, TALK, (ECHO,))))
    assert tally.errors["ended"] + tally.errors["reset"] > 0


def test_a_server_that_stops_answering_is_noticed() -> None:
    gone = threading.Event()

    def talk(peer: socket.socket) -> None:
        peer.sendall(peer.recv(1000))
        gone.wait(DEADLINE)

    with serving(talk) as place:
        tally = measure(plan_of(place, Group(1, TALK, (ECHO,)), seconds=0.3, patience=0.1))
        gone.set()
    assert tally.errors["timeout"] > 0


def test_a_server_that_hangs_at_the_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoframe.compare.load.SILENCE", 0.1)
    gone = threading.Event()
    hangs = threading.Event()

    def talk(peer: socket.socket) -> None:
        while not hangs.is_set():
            peer.sendall(peer.recv(1000))
        gone.wait(DEADLINE)

    with serving(talk) as place:
        load = Load(plan_of(place, Group(1, TALK, (ECHO,)), seconds=0.1))
        try:
            load.prepare()
            timer = threading.Timer(0.05, hangs.set)
            timer.start()
            tally = load.measure()
        finally:
            load.close()
            gone.set()
    timer.join()
    assert tally.messages > 0
    assert tally.errors == {"timeout": 1}


def test_nobody_there_is_an_error_of_each_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    tally = measure(plan_of(f"tcp://127.0.0.1:{port}", Group(2, TALK, (ECHO,))))
    assert tally.errors["refused"] >= 2
    assert tally.messages == 0
    assert tally.unserved == 2


def test_lost_datagrams_are_counted_and_sent_anew() -> None:
    heard = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(DEADLINE)
        over = False

        def serve() -> None:
            nonlocal heard
            while not over:
                data, peer = server.recvfrom(1000)
                heard += 1
                if heard % 20:
                    server.sendto(data, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        tally = measure(
            plan_of(f"udp://127.0.0.1:{port}", Group(1, TALK, (ECHO,)), seconds=0.4, patience=0.1)
        )
        over = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", port))
        thread.join(DEADLINE)
    assert set(tally.errors) == {"lost"}
    assert heard > 20
