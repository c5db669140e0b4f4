"""What commands are told: they do it, or say in a sentence why not. Nothing else is run."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="the property tests need hypothesis: pip install it")

from hypothesis import example, given
from hypothesis import strategies as st

from echoframe import Address, AddressError, Report, Server, probing
from echoframe.cli import COMMANDS, compare, main, serve
from echoframe.cli.failure import UsageError
from echoframe.cli.options import COUNT, LIST, SWITCH, choose
from echoframe.compare.loaders import LoadFailed
from echoframe.framing import make_framing
from echoframe.servers import SETTINGS, Lifecycle
from echoframe.transports import tcp
from echoframe.transports.base import look_up

from .inputs import text

NAMES = [name for option in serve.OPTIONS for name in (option.name, *option.aliases)]
FLAGS = [flag for option in serve.OPTIONS for flag in option.flags]

# What may be meant, and what nobody can mean.
numbers = st.integers(-2, 2**33).map(str) | st.floats(width=16).map(str)
values = st.one_of(
    text(),
    numbers,
    st.sampled_from(["thread", "pool", "loop", "single", "prefork", "aio", "fork", "off", "auto"]),
    st.sampled_from(["true", "no", "text", "json", "info", "line", "raw", "fixed:3", "never"]),
    st.sampled_from(["echo", "command", "canary:echo", "canary", "canary:", "canary.echo", ".:x"]),
    st.sampled_from(["fd://3", "unix://", "udp://127.0.0.1:0", "tls://127.0.0.1:0", "h:x", "a,b"]),
)


def possible(word: str) -> str:
    """What of it the system passes on: no zero bytes, and no halves of letters."""
    return "".join(
        letter
        for letter in word
        if letter != "\0" and not ("\ud800" <= letter < "\udc80" or "\udd00" <= letter < "\ue000")
    )


words_of_a_line = values.map(possible)

# Documents: a key and what stands behind it, as text, so that all of TOML is there.
keys = st.sampled_from(NAMES) | text(8).map(json.dumps) | st.sampled_from(["a.b", "[serve]\nx"])
leaves = st.one_of(
    text().map(json.dumps),
    values.map(json.dumps),
    numbers,
    st.sampled_from(["true", "false", "inf", "-nan", "1979-05-27", "07:32:00", "0x" + "f" * 4000]),
    st.sampled_from(["'''\n'''", '"\\u0000"', "1_000", "+1", "0o17", "{}", "[]", "1" * 5000]),
)
toml_values = leaves | st.lists(leaves, max_size=3).map(lambda of: f"[{', '.join(of)}]")
documents = st.one_of(
    st.lists(st.builds("{} = {}".format, keys, toml_values), max_size=4).map("\n".join),
    text(60),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, in which a module waits that nobody asks for."""
    path: Path = tmp_path_factory.mktemp("fuzz")
    (path / "canary.py").write_text("def echo(message):\n    return message\n")
    before = os.getcwd()
    os.chdir(path)
    yield path
    os.chdir(before)


@pytest.fixture(scope="module")
def running_nothing(folder: Path) -> Iterator[None]:
    """main() ends where a server or a comparison would have run, and nobody is reached."""

    def end(self: Server) -> Report:
        return self.close()

    def find(address: Address, kind: int, passive: bool) -> Any:
        if passive and address.host in ("127.0.0.1", "::1"):
            return look_up(address, kind, passive)
        raise AddressError(f"cannot find the host of {address}")

    def measure(*order: Any) -> Any:
        raise LoadFailed("not here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lifecycle, "run", end)
        patch.setattr(tcp, "look_up", find)
        patch.setattr(probing, "look_up", find)
        patch.setattr(compare, "compare", measure)
        for name in NAMES:
            patch.delenv(f"ECHOFRAME_{name.upper()}", raising=False)
        yield


def run(words: list[str]) -> int:
    """main()'s exit code, after a look at what it has said."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "stderr", errors)
        patch.setattr(sys, "stdout", io.StringIO())
        code = main(words)
    said = errors.getvalue()
    assert "canary" not in sys.modules
    assert "Traceback" not in said
    assert all(line.isprintable() for line in said.split("\n"))
    if code:
        (sentence,) = [line for line in said.split("\n") if line.startswith("echoframe: ")]
        assert said.endswith(sentence + "\n")
    return code


def write(path: Path, document: str) -> str:
    (path / "fuzz.toml").write_bytes(document.encode(errors="surrogatepass"))
    return str(path / "fuzz.toml")


def check(said: list[str], variables: dict[str, str], file: str | None) -> None:
    """Choose, and see that each value is one that its option may have."""
    try:
        given = serve.parser().parse_args(said)
        chosen = choose(serve.OPTIONS, given, variables, file)
    except (UsageError, SystemExit):
        # A sentence, whose letters are looked at below; or -h was among the words.
        return
    assert "canary" not in sys.modules
    for option in serve.OPTIONS:
        if option.name not in chosen:
            continue
        value = chosen[option.name].value
        if option.name in SETTINGS:
            kept = SETTINGS[option.name].check(value)
            assert SETTINGS[option.name].check(kept) == kept
        elif option.kind == SWITCH:
            assert isinstance(value, bool)
        elif option.kind == COUNT:
            assert isinstance(value, int)
        elif option.kind == LIST:
            assert isinstance(value, list)
        elif option.name == "framing":
            make_framing(value)()
        else:
            assert value is not None


@given(st.sampled_from(NAMES), words_of_a_line)
@example("ready_fd", "9" * 15)
@example("unix_mode", "²")
def test_any_variable_has_a_value_or_is_refused(name: str, value: str) -> None:
    check([], {f"ECHOFRAME_{name.upper()}": value}, None)


@given(st.lists(st.sampled_from([*FLAGS, "--", "-", "-x", "--con"]) | words_of_a_line, max_size=5))
@example(["--port=\x1b[2J"])
def test_any_words_have_a_meaning_or_are_refused(words: list[str]) -> None:
    check([word for word in words if not word.startswith("--config")], {}, None)


@given(document=documents)
@example(document="idle_timeout = 0x" + "f" * 4000)
@example(document="workers = " + "1" * 5000)
@example(document="once = 0x" + "f" * 4000)
@example(document="unix_mode = [0x" + "f" * 4000 + "]")
@example(document="handler." + "a." * 5000 + "a = 1")
@example(document="handler = " + "[" * 5000)
def test_any_file_has_a_meaning_or_is_refused(folder: Path, document: str) -> None:
    check([], {}, write(folder, document))


# A few things at a time, so that some of them are right.
ways = {
    "model": st.sampled_from(["single", "pool", "prefork", "loop", "aio", "fork", "\x1b"]),
    "bind": st.sampled_from(["127.0.0.1:0", "udp://[::1]:0", "unix://s", "unix://x\x1b", "x"]),
    "framing": values,
    "inner": values,
    "once": values,
    "handler": text(8) | st.sampled_from(["command", "upper", "canar:echo", "os:path", "a:"]),
    "port_file": text(),
    "tls_cert": text(),
    "unix_mode": values,
    "log_format": values,
    "max_message": values,
    "threads": values,
    "idle_timeout": values,
}
settings_of_a_server = st.lists(
    st.sampled_from(sorted(ways)).flatmap(lambda name: st.tuples(st.just(name), ways[name])),
    max_size=3,
).map(dict)


@given(settings=settings_of_a_server, flags=st.booleans())
@example(settings={"port_file": "a\0b"}, flags=False)
@example(settings={"port_file": "\ud800"}, flags=True)
@example(settings={"handler": "h:\x1b[2J\n"}, flags=True)
@example(settings={"bind": "\u202e:0"}, flags=True)
@example(settings={"tls_cert": "\0", "bind": "tls://127.0.0.1:0"}, flags=True)
def test_a_server_starts_or_one_sentence_says_why_not(
    folder: Path, running_nothing: None, settings: dict[str, str], flags: bool
) -> None:
    told = {"bind": "127.0.0.1:0", **settings}
    # In the folder of this test, whatever they are called.
    if "port_file" in told and ("/" in told["port_file"] or ".py" in told["port_file"]):
        told["port_file"] = "port"
    if flags:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]
        words = [word.removeprefix("--handler=") for word in words]
        if any(option.kind == SWITCH and option.name in told for option in serve.OPTIONS):
            words = [word for word in words if not word.startswith("--once")] + ["--once"]
    else:
        document = "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())
        words = ["--config", write(folder, document)]
    assert run(["serve", *words]) in (0, 2, 3)


def flags_of(name: str) -> list[str]:
    made = importlib.import_module(f"echoframe.cli.{name}").parser()
    return [name, *made._option_string_actions]


OTHERS = [flags_of(name) for name in COMMANDS if name != "serve"]


@given(data=st.data())
def test_any_other_command_does_it_or_one_sentence_says_why_not(
    running_nothing: None, data: st.DataObject
) -> None:
    name, *flags = data.draw(st.sampled_from(OTHERS))
    words = data.draw(st.lists(st.sampled_from(flags) | words_of_a_line, max_size=6))
    # Files are written in the folder of this test, whatever they are called; and here
    # somebody might ask for the canary.
    words = [word for word in words if "/" not in word or "://" in word]
    words = [word for word in words if word != "canary:echo"]
    assert run([name, *words]) in (0, 1, 2)


@given(
    st.lists(
        words_of_a_line | st.sampled_from(["-h", "--version", "--help", "handlers"]),
        min_size=1,
        max_size=2,
    )
)
@example(["\x1b[2J"])
def test_no_word_is_a_command_that_is_none(running_nothing: None, words: list[str]) -> None:
    known = {*COMMANDS, "-h", "--help", "--version"}
    assert run(words) == 2 or words[0] in known
