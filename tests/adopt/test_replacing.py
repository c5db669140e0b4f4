"""Programs of socketserver's, as they are, with our mix-ins in them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ..cli.programs import PATIENCE, ROOT
from .adopted import adopted, python, written

# What a process prints to tell whether socketserver's mix-ins are ours there.
TELL = (
    "import socketserver; print('adopted', hasattr(socketserver.ThreadingMixIn, 'drain_timeout'))"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return written(tmp_path / "site.py", "site().serve_forever()", site=True)


def test_what_threading_is_can_be_chosen_with_its_settings(site: Path) -> None:
    with adopted("-m", "pool", "--threads", "3", "--", *python(site)) as up:
        kinds = up.ask()
        assert kinds[:2] == ["ThreadingHTTPServer", "ThreadingMixIn"]
        assert "PoolMixIn" in kinds
        line = up.log.until("\n")
        assert line.startswith(f"echoframe: ThreadingHTTPServer at ('127.0.0.1', {up.port})")
        assert "the model pool in place of socketserver.ThreadingMixIn" in line
        assert "threads 3" in line
        assert line.endswith("SIGTERM drains\n")


@pytest.mark.slow
def test_a_module_of_the_standard_library(tmp_path: Path) -> None:
    command = [*python("-u", "-m"), "http.server", "0", "--bind", "127.0.0.1", "-d", str(tmp_path)]
    # Two dashes are only needed where the command could be taken for a flag.
    with adopted("-m", "pool", *command) as up:
        # Of whose classes there are two then: it is run as __main__.
        assert "(none between two requests)" in up.log.until("\n")
        up.terminate()
        assert up.end() == 0
        assert "Serving HTTP on 127.0.0.1" in up.out.rest()


FORKING = """
class Site(socketserver.ForkingMixIn, http.server.HTTPServer):
    pass


site(Site).serve_forever()
"""


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        pytest.param([], "ForkingMixIn", marks=pytest.mark.slow),
        (["-m", "prefork", "-w", "2"], "PreforkMixIn"),
        # Memory that was copied would be shared.
        pytest.param(["-m", "pool"], "ForkingMixIn", marks=pytest.mark.slow),
        pytest.param(["-m", "pool", "--force"], "PoolMixIn", marks=pytest.mark.slow),
    ],
    ids=["as it is", "prefork", "pool", "pool by force"],
)
def test_what_forking_is_can_be_chosen_too(tmp_path: Path, flags: list[str], kind: str) -> None:
    program = written(tmp_path / "app.py", FORKING, site=True)
    with adopted(*flags, "--", *python(program)) as up:
        kinds = up.ask()
        assert kinds[3] == kind or kind in kinds[: kinds.index("Lifecycle")]
        assert ("PoolMixIn" in kinds) == (kind == "PoolMixIn")
        up.terminate()
        assert up.end() == 0


@pytest.mark.slow
def test_a_server_without_a_mixin_gets_one_where_that_is_wanted(tmp_path: Path) -> None:
    program = written(
        tmp_path / "app.py", "site(http.server.HTTPServer).serve_forever()", site=True
    )
    with adopted("--plain", "-m", "pool", "--", *python(program)) as up:
        kinds = up.ask()
        assert [kinds[0], kinds.count("HTTPServer")] == ["HTTPServer", 2]
        assert "PoolMixIn" in kinds
        up.terminate()
        assert up.end() == 0


def test_children_are_adopted_too(tmp_path: Path) -> None:
    program = written(
        tmp_path / "app.py",
        f"""
        import multiprocessing, subprocess, sys

        def tell():
            {TELL}

        if __name__ == "__main__":
            for method in ("spawn", "fork"):
                child = multiprocessing.get_context(method).Process(target=tell)
                child.start()
                child.join()
            subprocess.run([sys.executable, "-c", {TELL!r}], check=True)
            # Who knows nothing of it, has nothing of it.
            subprocess.run([sys.executable, "-c", {TELL!r}], env={{}}, check=True)
        """,
    )
    with adopted("--", *python(program)) as up:
        assert up.end() == 0
        said = up.out.rest()
        assert said == "adopted True\n" * 3 + "adopted False\n"
        # They were there, so nothing is said about not having served.
        assert up.log.rest() == ""


def test_a_program_has_its_own_sitecustomize(tmp_path: Path) -> None:
    # The launcher finds it too, and runs it as any Python does.
    own = "import os\nhere = True\nif 'ECHOFRAME_ADOPT' in os.environ: print('its own')\n"
    written(tmp_path / "sitecustomize.py", own)
    program = f"import sitecustomize; print(sitecustomize.here); {TELL}"
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    with adopted("-q", "--", *python("-c", program), PYTHONPATH=path) as up:
        assert (up.end(), up.out.rest()) == (0, "its own\nTrue\nadopted True\n")
        assert up.log.rest() == ""


def test_a_program_that_has_not_installed_us_finds_us_and_nothing_else_of_ours(
    tmp_path: Path,
) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    program = (
        "import importlib.util as u, sys; "
        "print(u.find_spec('tests'), any('bootstrap' in path for path in sys.path)); " + TELL
    )
    # The launcher finds its own package by its folder, and passes nothing of that on.
    command = [str(tmp_path / "venv" / "bin" / "python"), "-c", program]
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from echoframe.cli import main; main()"
    words = [sys.executable, "-c", start, "adopt", "-q", "--", *command]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path, env=clean
    )
    assert (done.stdout, done.stderr) == ("None False\nadopted True\n", "")


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("pass", "echoframe: this program never imported socketserver, so nothing was replaced\n"),
        pytest.param(
            "import http.server",
            "made no server of socketserver's mix-ins (--plain",
            marks=pytest.mark.slow,
        ),
        # It has an error of its own to tell.
        pytest.param("raise LookupError", "LookupError\n", marks=pytest.mark.slow),
        pytest.param(
            "raise KeyboardInterrupt", "so nothing was replaced\n", marks=pytest.mark.slow
        ),
    ],
)
def test_a_program_that_does_not_serve_is_told_so(program: str, sentence: str) -> None:
    with adopted("--", *python("-c", program)) as up:
        said = up.log.rest()
        assert sentence in said
        assert ("nothing was replaced" in said) == ("replaced" in sentence or "made" in sentence)


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ("", "echoframe: so it is\\x1b\n"),
        pytest.param(
            "logging.basicConfig(); ", "WARNING:echoframe.server:so it is", marks=pytest.mark.slow
        ),
    ],
    ids=["no log", "a log"],
)
def test_what_is_wrong_is_said_once_where_the_program_logs(own: str, line: str) -> None:
    log = "logging.getLogger('echoframe.server')"
    program = f"import logging, socketserver; {own}{log}.info('no'); {log}.warning('so it is\\x1b')"
    with adopted("-q", "--", *python("-c", program)) as up:
        said = up.log.rest()
        assert said.startswith(line)
        assert said.count("\n") == 1


@pytest.mark.slow
def test_a_program_that_uses_echoframe_itself(tmp_path: Path) -> None:
    # That somebody asks where it is, changes nothing.
    look = "from importlib.util import find_spec; find_spec('echoframe'); find_spec('socketserver')"
    program = f"{look}; import echoframe; {TELL}; print(issubclass(echoframe.ThreadServer, object))"
    with adopted("-q", "--", *python("-c", program)) as up:
        assert (up.end(), up.out.rest()) == (0, "adopted True\nTrue\n")


@pytest.mark.parametrize("model", [pytest.param("thread", marks=pytest.mark.slow), "pool"])
def test_names_that_a_program_means_otherwise_stay_its_own(tmp_path: Path, model: str) -> None:
    text = """
    class Site(http.server.ThreadingHTTPServer):
        overload = 7

        def __init__(self, *words):
            super().__init__(*words)
            self.threads = ["one"]
            self.report = "so it was"

        def stop(self):
            print("its own stop", flush=True)
            self.shutdown()

        def verify_request(self, *words):
            print(self.threads, self.report, self.overload, type(self) is not Site, flush=True)
            return True

    server = site(Site)
    server.serve_forever()
    server.stop()
    print(server.report)
    """
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("-m", model, "--max-connections", "9", "--", *python(program)) as up:
        assert up.ask()[:2] == ["Site", "Site"]
        up.terminate()
        assert up.end() == 0
        told = up.out.rest().splitlines()[1:]
        assert told == ["['one'] so it was 7 True", "its own stop", "so it was"]
        assert "max_connections 9" in up.log.rest()


def test_a_servers_own_serve_forever_is_not_hidden(tmp_path: Path) -> None:
    text = """
    class Base(http.server.HTTPServer):
        def serve_forever(self, poll_interval=0.5):
            try:
                super().serve_forever(poll_interval)
            finally:
                print("its own", flush=True)

    class Site(socketserver.ThreadingMixIn, Base):
        pass

    site(Site).serve_forever()
    """
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("-q", "--", *python(program)) as up:
        up.ask()
        up.terminate()
        assert (up.end(), up.out.rest().splitlines()[1:]) == (0, ["its own"])


@pytest.mark.slow
def test_a_server_that_is_a_thread_runs_as_one(tmp_path: Path) -> None:
    text = """
    class Site(http.server.ThreadingHTTPServer, threading.Thread):
        def __init__(self, *words):
            super().__init__(*words)
            threading.Thread.__init__(self, target=self.serve_forever)

    server = site(Site)
    server.start()
    input()
    server.shutdown()
    server.join()
    print(server.is_alive())
    server.server_close()
    """
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("-q", "-m", "pool", "--", *python(program)) as up:
        up.ask()
        up.let_go()
        assert (up.end(), up.out.rest().splitlines()[1:]) == (0, ["False"])


def test_the_wrong_order_is_a_line_in_the_log(tmp_path: Path) -> None:
    text = "class Wrong(socketserver.TCPServer, socketserver.ThreadingMixIn): pass\nsite()"
    program = written(tmp_path / "app.py", text, site=True)
    with adopted("--", *python("-W", "error", program)) as up:
        assert up.end() == 0
        assert "ThreadingMixIn changes nothing behind TCPServer, where Wrong" in up.log.rest()


@pytest.mark.parametrize("serve", ["server.serve_forever()", "server.handle_request()"])
def test_a_server_without_a_mix_in_stays_as_it_is_and_that_is_said_once(
    serve: str, tmp_path: Path
) -> None:
    text = f"server = site(http.server.HTTPServer)\n{serve}\ninput()"
    with adopted("--", *python(written(tmp_path / "app.py", text, site=True))) as up:
        assert up.ask()[0] == "HTTPServer"
        up.terminate()
        assert up.end() == -signal.SIGTERM
        (line,) = up.log.rest().splitlines()
        if "forever" in serve:
            assert line.endswith(
                "has none of socketserver's mix-ins, and stays as it is; --plain gives it one"
            )
        else:
            assert line.endswith("(--plain takes those without one), so nothing was replaced")


def test_a_server_without_an_address_serves_all_the_same(tmp_path: Path) -> None:
    text = """
    import os, socketserver

    class Pipe(socketserver.BaseServer):
        def get_request(self):
            return os.read(self.fileno(), 1), None

        def fileno(self):
            return ends[0]

        def process_request(self, request, client_address):
            self._BaseServer__shutdown_request = True

    ends = os.pipe()
    os.write(ends[1], b"x")
    server = Pipe(None, None)
    del server.server_address
    server.serve_forever()
    """
    with adopted("--", *python(written(tmp_path / "app.py", text))) as up:
        assert up.end() == 0
        assert up.log.rest().startswith("echoframe: Pipe at ? has none of")


def test_who_has_a_mix_in_hears_nothing_of_those_that_have_none(tmp_path: Path) -> None:
    text = """
    plain = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    site().serve_forever()
    """
    with adopted("--", *python(written(tmp_path / "app.py", text, site=True))) as up:
        assert "ThreadingMixIn" in up.ask()
        up.terminate()
        # Its SIGTERM drains all the same, whichever of the two has served first.
        assert up.end() == 0


def test_who_is_cut_is_said_unasked(tmp_path: Path) -> None:
    program = written(tmp_path / "app.py", "site().serve_forever()", site=True)
    with adopted("--idle-timeout", "0.1", "--", *python(program)) as up:
        with socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE) as silent:
            assert silent.recv(1) == b""
        up.log.until("Cut 127.0.0.1:")
        up.log.until("idle_timeout (0.1 s)")


def test_a_model_that_is_for_the_other_mix_in_is_told_so(tmp_path: Path) -> None:
    program = written(tmp_path / "app.py", "site().serve_forever()", site=True)
    with adopted("-m", "fork", "--", *python(program)) as up:
        assert up.ask()
        up.terminate()
        assert up.end() == 0
        assert "model thread in place" in (said := up.log.rest())
        assert "; fork is for ForkingMixIn, or for both with --force" in said
