"""SIGTERM, in programs that know nothing of it and in those that do."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echoframe import Address
from echoframe.adopt import ending

from ..cli.programs import PATIENCE, refused
from .adopted import Program, adopted, python, written


def gone(up: Program) -> bool:
    """Wait until it accepts nobody any more."""
    return refused(Address("tcp", "127.0.0.1", up.port))


MAIN = "site().serve_forever()\nprint('behind', flush=True)"

# As Django's and many others' do.
THREAD = """
import time

threading.Thread(target=site().serve_forever, daemon=True).start()
while True:
    time.sleep(0.1)
"""

# For each request anew.
LOOP = """
server = site()
while True:
    server.handle_request()
"""

# It says that it was told to end, and no more.
EXITS = (
    """
import signal

signal.signal(signal.SIGTERM, lambda *words: sys.exit(0))
"""
    + THREAD
)


@pytest.mark.parametrize(
    "text",
    [
        MAIN,
        pytest.param(THREAD, marks=pytest.mark.slow),
        pytest.param(EXITS, marks=pytest.mark.slow),
        pytest.param(LOOP, marks=pytest.mark.slow),
    ],
    ids=["main", "thread", "own handler", "loop"],
)
def test_a_request_completes(tmp_path: Path, text: str) -> None:
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("-q", "-m", "pool", "--", *python(program)) as up, up.asked("/wait") as peer:
        up.out.until("begun")
        up.terminate()
        assert gone(up)
        up.let_go()
        assert b"PoolMixIn" in peer.getresponse().read()
        assert up.end() == 0
        assert ("behind" in up.out.rest()) == (text is MAIN)
        assert up.log.rest() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_whom_an_end_waits_for_is_said_once(number: int, tmp_path: Path) -> None:
    program = written(tmp_path / "app.py", "site().serve_forever()", site=True)
    with adopted("-m", "pool", "--", *python(program)) as up, up.asked("/wait") as peer:
        up.out.until("begun")
        up.process.send_signal(number)
        up.log.until("for 1 conversation")
        # Until the log would have said so, too.
        assert up.process.stderr is not None  # a pipe
        assert not select.select([up.process.stderr], [], [], 0.8)[0]
        up.let_go()
        assert peer.getresponse().read()
        assert up.end() == (0 if number == signal.SIGTERM else -signal.SIGINT)
        assert up.log.rest().count("for 1 conversation") == 1


@pytest.mark.slow
def test_a_second_signal_cuts(tmp_path: Path) -> None:
    program = written(tmp_path / "app.py", MAIN, site=True)
    with adopted("-q", "--", *python(program)) as up, up.asked("/wait"):
        up.out.until("begun")
        up.terminate()
        assert gone(up)
        up.terminate()
        assert up.end() == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_program_that_catches_its_end_ends_all_the_same(tmp_path: Path) -> None:
    text = """
    import time

    # So long it is given.
    sys.modules["echoframe.adopt.ending"].PATIENCE = 0.1
    threading.Thread(target=site().serve_forever, daemon=True).start()
    while True:
        try:
            time.sleep(60)
        except SystemExit:
            print("caught", flush=True)
    """
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("-q", "--", *python(program)) as up:
        up.ask()
        up.terminate()
        assert up.end() == 0
        assert "caught" in up.out.rest()


@pytest.mark.slow
def test_a_programs_own_handler_is_left_to_it(tmp_path: Path) -> None:
    text = """
    import signal

    def handler(*words):
        print("mine", flush=True)
        sys.exit(5)

    signal.signal(signal.SIGTERM, handler)
    site().serve_forever()
    """
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("--", *python(program)) as up:
        up.ask()
        assert "SIGTERM is left to the program" in up.log.until("\n")
        up.terminate()
        assert up.end() == 5
        assert "mine" in up.out.rest()


# As werkzeug's and Django's do: a parent that starts the program again, whose main thread
# watches files while another one serves. Their handler of SIGTERM ends both at once.
RELOADER = """
import os, signal, subprocess, sys, threading, time


def run(serve):
    signal.signal(signal.SIGTERM, lambda *words: sys.exit(0))
    if "CHILD" not in os.environ:
        sys.exit(subprocess.call([sys.executable, *sys.argv], env={**os.environ, "CHILD": "1"}))
    threading.Thread(target=serve, daemon=True).start()
    while True:
        time.sleep(0.1)
"""


def test_what_a_reloader_has_started_drains(tmp_path: Path) -> None:
    (tmp_path / "werkzeug").mkdir()
    written(tmp_path / "werkzeug" / "_reloader.py", RELOADER)
    text = "from werkzeug._reloader import run\nrun(lambda: site().serve_forever())"
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("-q", "--", *python(program)) as up, up.asked("/wait") as peer:
        up.out.until("begun")
        up.terminate()
        assert gone(up)
        up.let_go()
        assert peer.getresponse().status == 200
        assert up.end() == 0
        assert up.log.rest() == ""


def test_who_ends_between_two_looks_is_not_taken_for_deaf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, looks = os.waitid, []

    def waitid(kind: int, pid: int, options: int) -> object:
        looks.append(pid)
        if len(looks) > 1:
            return real(kind, pid, options)
        # "Not yet"; and has ended when that is heard.
        real(kind, pid, os.WEXITED | os.WNOWAIT)
        return None

    monkeypatch.setattr(os, "waitid", waitid)
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
        assert ending._end_of(child.pid) == 3


SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def test_who_has_neither_servers_nor_children_ends_as_ever() -> None:
    with adopted("--", *python("-c", SLEEPER)) as up:
        up.out.until("up")
        up.terminate()
        assert up.end() == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize(
    "handler", ["", "import signal, sys; signal.signal(15, lambda *w: sys.exit(4)); "]
)
def test_who_has_only_children_ends_as_they_do(handler: str) -> None:
    # The program itself does not look after them.
    parent = (
        "import subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', {handler + SLEEPER!r}]); time.sleep(60)"
    )
    with adopted("--", *python("-c", parent)) as up:
        up.out.until("up")
        up.terminate()
        assert up.end() == (4 if handler else -signal.SIGTERM)


def test_a_process_of_multiprocessing_can_be_terminated(tmp_path: Path) -> None:
    program = written(
        tmp_path / "app.py",
        """
        import multiprocessing, time

        if __name__ == "__main__":
            for method in ("spawn", "fork"):
                child = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
                child.start()
                child.terminate()
                child.join()
                print(child.exitcode)
        """,
    )
    with adopted("--", *python(program)) as up:
        assert (up.end(), up.out.rest()) == (0, "-15\n-15\n")


@pytest.mark.slow
def test_a_pool_of_multiprocessings_is_gone_with_its_program(tmp_path: Path) -> None:
    program = written(
        tmp_path / "app.py",
        """
        import multiprocessing, os, time

        if __name__ == "__main__":
            pool = multiprocessing.get_context("spawn").Pool(2)
            print(*pool.map(abs, [1]), *(child.pid for child in pool._pool), flush=True)
            time.sleep(60)
        """,
    )
    with adopted("--", *python(program)) as up:
        _, *pids = up.out.until("\n").split()
        assert len(pids) == 2
        up.terminate()
        assert up.end() == -signal.SIGTERM
        # Each of them has it open.
        up.out.rest()


def test_children_are_known_where_the_kernel_does_not_tell() -> None:
    before = ending._started()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert set(ending._started()) - set(before) == {child.pid}
        child.communicate(b"\n", PATIENCE)
    assert child.pid not in ending._started()
