"""serve's options: flags win over variables, and variables over the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from echoframe import Address, Report, Server
from echoframe.cli import main, serve
from echoframe.cli.options import LIST, choose
from echoframe.servers import MODELS, SETTINGS, Lifecycle


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What main() would have run: the server, instead of running it."""
    servers: list[Any] = []

    def note(self: Server) -> Report:
        servers.append(self)
        return self.close()

    monkeypatch.setattr(Lifecycle, "run", note)
    for option in serve.OPTIONS:
        for name in (option.name, *option.aliases):
            monkeypatch.delenv(f"ECHOFRAME_{name.upper()}", raising=False)
    monkeypatch.setenv("ECHOFRAME_PORT", "0")
    return servers


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        (tmp_path / "echo.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "echo.toml")

    return write


def test_the_default_address() -> None:
    assert serve._places({}) == [Address.parse("tcp://127.0.0.1:7007")]


def test_the_defaults(outcome: list[Any]) -> None:
    assert main(["serve"]) == 0
    (server,) = outcome
    assert server.model == "thread"
    assert server.protocol.name == "echo"
    for setting in SETTINGS.values():
        assert getattr(server, setting.name, None) == (None if setting.model else setting.default)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("overload", "drop", "refuse:full"),
        ("allow", "10.0.0.0/8", "::1"),
        ("deny", "::1", "127.0.0.1"),
    ],
)
def test_what_is_no_number_has_its_three_ways(
    name: str,
    one: str,
    other: str,
    outcome: list[Any],
    config: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["serve", "--" + name, one]) == 0
    assert main(["serve", "--config", config(f'{name} = "{one}"')]) == 0
    monkeypatch.setenv(f"ECHOFRAME_{name.upper()}", other)
    assert main(["serve"]) == 0
    assert main(["serve", "--" + name, one]) == 0
    first, second, third, fourth = (getattr(server, name) for server in outcome[-4:])
    check = SETTINGS[name].check
    assert first == second == fourth == check(one)
    assert third == check(other)


NUMBERS = [name for name, setting in SETTINGS.items() if setting.read is None]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_setting_has_its_three_ways(
    name: str, outcome: list[Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = SETTINGS[name]
    model = ["-m", setting.model or "thread"]
    if name == "max_requests_jitter":
        model += ["--max-requests", "1"]
    for word in (name, *setting.aliases):
        flag = "--" + word.replace("_", "-")
        assert main(["serve", *model, flag, "7"]) == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"ECHOFRAME_{word.upper()}", "8")
            assert main(["serve", *model]) == 0
        for text in (f"{word} = 9", f"[serve]\n{word.replace('_', '-')} = 9"):
            assert main(["serve", *model, "--config", config(text)]) == 0
        assert [getattr(server, name) for server in outcome[-4:]] == [7, 8, 9, 9]


def test_flags_win_over_variables_and_these_over_the_file(
    outcome: list[Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config('handler = "upper"\nmodel = "fork"\nbacklog = 3\nidle-timeout = 2.5\n')
    monkeypatch.setenv("ECHOFRAME_CONFIG", file)
    monkeypatch.setenv("ECHOFRAME_BACKLOG", "4")
    monkeypatch.setenv("ECHOFRAME_MODEL", "single")
    assert main(["serve", "-m", "thread"]) == 0
    (server,) = outcome
    assert server.protocol.name == "upper"
    assert (server.model, server.backlog, server.idle_timeout) == ("thread", 4, 2.5)


def test_the_handler_as_a_variable(
    outcome: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECHOFRAME_HANDLER", "command")
    assert main(["serve"]) == 0
    assert outcome[0].protocol.name == "command"
    monkeypatch.setenv("ECHOFRAME_HANDLER", "comand")
    assert main(["serve"]) == 2
    assert "\nechoframe: ECHOFRAME_HANDLER: unknown handler" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS)
def test_the_model_by_name(model: str, outcome: list[Any]) -> None:
    assert main(["serve", "-m", model]) == 0
    assert type(outcome[0]) is MODELS[model]


@pytest.mark.parametrize(
    "words",
    [
        ["--workers", "2"],
        ["--max-requests", "5"],
        ["--inner", "single"],
        ["--reuse-port"],
        ["-m", "prefork", "--once"],
        ["-m", "prefork", "--inner", "fork"],
        ["-m", "prefork", "--inner", "prefork"],
    ],
)
def test_a_flag_that_a_model_cannot_use_is_a_usage_error(
    words: list[str], outcome: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert outcome == []


def test_the_workers_of_prefork(outcome: list[Any]) -> None:
    assert main(["serve", "-m", "prefork", "-w", "3", "--inner", "single", "--reuse-port"]) == 0
    assert main(["serve", "-m", "prefork", "-w", "auto"]) == 0
    assert [server.workers for server in outcome] == [3, 0]
    assert [server.reuse_port for server in outcome] == [True, False]
    assert outcome[0].inner is MODELS["single"]


def test_the_settings_of_what_runs_in_the_workers(
    outcome: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "-m", "prefork", "--threads", "4", "--queue-size", "5"]) == 0
    assert main(["serve", "-m", "prefork", "--inner", "pool", "--threads", "4"]) == 0
    assert [server.threads for server in outcome] == [4, 4]
    assert main(["serve", "-m", "prefork", "--inner", "loop", "--threads", "4"]) == 2
    assert "is for the model pool, not for loop; add --inner pool" in capsys.readouterr().err
    assert len(outcome) == 2


def test_a_handler_that_the_workers_cannot_run_is_refused_for_their_inner_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["serve", "async-wait", "--port", "0", "-m", "prefork", "--inner", "thread"]
    assert main(words) == 2
    assert "the model 'thread' (inner of 'prefork') waits for" in capsys.readouterr().err


def test_addresses_from_everywhere(
    outcome: list[Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def schemes() -> list[str]:
        return [str(place).replace("localhost", "127.0.0.1") for place in outcome[-1]._places]

    # A port that is given closer by wins over addresses from farther away, and
    # the other way round.
    file = config('bind = ["udp://127.0.0.1:0", "127.0.0.1:0"]')
    monkeypatch.delenv("ECHOFRAME_PORT")
    assert main(["serve", "--config", file]) == 0
    assert schemes() == ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
    monkeypatch.setenv("ECHOFRAME_PORT", "0")
    assert main(["serve", "--config", file]) == 0
    assert schemes() == ["tcp://127.0.0.1:0"]
    assert main(["serve", "-b", "127.0.0.1:0", "-b", "udp://:0"]) == 0
    assert schemes() == ["tcp://127.0.0.1:0", "udp://:0"]
    monkeypatch.delenv("ECHOFRAME_PORT")
    monkeypatch.setenv("ECHOFRAME_BIND", "udp://127.0.0.1:0, 127.0.0.1:0")
    assert main(["serve"]) == 0
    assert schemes() == ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
    assert main(["serve", "--port", "0"]) == 0
    assert schemes() == ["tcp://127.0.0.1:0"]
    assert main(["serve", "--config", config('bind = "udp://:0"'), "--host", "::", "--port=0"]) == 0
    assert schemes() == ["tcp://[::]:0"]


def test_a_host_of_ipv6_with_and_without_brackets(outcome: list[Any]) -> None:
    for host in ("::", "[::]"):
        assert main(["serve", "--host", host]) == 0
        assert outcome[-1]._places == [Address.parse("tcp://[::]:0")]


def test_no_host_is_every_interface(outcome: list[Any]) -> None:
    assert main(["serve", "--host", ""]) == 0
    assert outcome[0]._places == [Address.parse("tcp://:0")]


@pytest.mark.parametrize(
    ("text", "once"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("off", False), ("", False)],
)
def test_switches_as_variables(
    text: str, once: bool, outcome: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOFRAME_ONCE", text)
    assert main(["serve", "-m", "single"]) == 0
    assert outcome[0].once is once


def test_log_options_from_everywhere(
    outcome: list[Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOFRAME_VERBOSE", "2")
    assert main(["serve"]) == 0
    # The flag contradicts the variable, and wins.
    assert main(["serve", "-q"]) == 0
    monkeypatch.delenv("ECHOFRAME_VERBOSE")
    assert main(["serve", "--config", config("verbose = true\nquiet = false")]) == 0
    assert [server.log_messages for server in outcome] == [True, False, True]


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ([], "INFO"),
        (["-q"], "WARNING"),
        (["-v"], "INFO"),
        (["-vv"], "DEBUG"),
        (["--log-level", "ERROR"], "ERROR"),
        (["-v", "--log-level", "warning"], "WARNING"),
    ],
)
def test_levels(given: list[str], level: str) -> None:
    import logging

    chosen = choose(serve.OPTIONS, serve.parser().parse_args(given), {}, None)
    assert serve._loudness(chosen)[0] == getattr(logging, level)


WRONG_FILES = [
    ("max_conections = 5", ["'max_conections'", "max_connections"]),
    ("[serve]\nmax-conections = 5", ["'max-conections'", "max_connections"]),
    ("[serv]\nuser = 5", ["table 'serv'; did you mean [serve]? options stand"]),
    ("[other]\nport = 5", ["table 'other'; options stand at the top or in [serve]"]),
    ("serve = 5", ["[serve]"]),
    ("port = 5\n[serve]\nport = 6", ["port", "twice"]),
    ("timeout = 5\nidle_timeout = 6", ["idle_timeout", "twice"]),
    ("port = = 5", ["TOML", "line 1"]),
    ('port = "x"', ["port", "'x'"]),
    ("port = true", ["port", "takes a number, not true"]),
    ("once = 2", ["once", "true or false"]),
    ("host = [1]", ["host"]),
    ("bind = []", ["bind"]),
    ("bind = [true]", ["bind", "not true"]),
    ("max_connections = 0", ["max_connections", "between 1"]),
    ("max_connections = true", ["max_connections: takes a number, not true"]),
    ("threads = 4", ["echo.toml: threads is for the model pool, not for thread; add --model pool"]),
    ("once = true", ["echo.toml: once is for the model single"]),
    (
        "model = 'single'\nmax-per-peer = 4",
        ["echo.toml: max-per-peer means nothing to the model 'single'"],
    ),
    ("idle_timeout = nan", ["idle_timeout", "nan"]),
    # 0o660 is 432, and 660 would be 0o1224.
    ("unix_mode = 0o660\nbind='unix:///x'", ['in quotes, as in unix_mode = "660", not 432']),
    ('model = "thred"', ["model", "'thread'"]),
    ('user = "no such one"', ["user", "no user is named 'no such one'"]),
    ("x = " + "[" * 5000, ["TOML"]),
]


@pytest.mark.parametrize(("text", "said"), WRONG_FILES, ids=[text[:20] for text, _ in WRONG_FILES])
def test_a_wrong_file_is_one_sentence_that_names_it(
    text: str,
    said: list[str],
    outcome: list[Any],
    config: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ECHOFRAME_PORT")
    assert main(["serve", "--config", config(text)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for words in ["echo.toml", *said]:
        assert words in err
    assert outcome == []


def test_no_file_and_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name, said in (
        ("nosuch.toml", "or directory; give --config (or ECHOFRAME_CONFIG) another"),
        ("bytes.toml", "TOML"),
        ("", "directory"),
    ):
        assert main(["serve", "--config", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert str(tmp_path / name) in err
        assert said in err


@pytest.mark.parametrize(
    "option",
    # Any text can be the name of a file.
    [
        option
        for option in serve.OPTIONS
        if option.name not in ("port_file", "tls_cert", "tls_key", "tls_ca", "takeover")
    ],
    ids=lambda option: option.name,
)
def test_a_wrong_variable_is_named(
    option: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "http://x" if option.kind == LIST else "no such thing"
    monkeypatch.setenv(f"ECHOFRAME_{option.name.upper()}", wrong)
    assert main(["serve"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"echoframe: ECHOFRAME_{option.name.upper()}: ")
    assert err.count("\n") == 1


def test_a_setting_that_a_model_has_not_is_named_as_the_variable_that_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECHOFRAME_THREADS", "4")
    assert main(["serve"]) == 2
    sentence = "ECHOFRAME_THREADS is for the model pool, not for thread; add --model pool"
    assert capsys.readouterr().err == f"echoframe: {sentence}\n"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ECHOFRAME_MAX_CONECTIONS", "ECHOFRAME_MAX_CONNECTIONS"),
        ("ECHOFRAME_CONFG", "ECHOFRAME_CONFIG"),
        ("ECHOFRAME_GRACEFULL_TIMEOUT", "ECHOFRAME_GRACEFUL_TIMEOUT"),
    ],
)
def test_a_variable_that_is_nearly_one_of_ours_is_refused(
    variable: str,
    meant: str,
    outcome: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "5")
    assert main(["serve"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"echoframe: unknown variable {variable!r}; did you mean {meant}")
    assert err.count("\n") == 1
    assert outcome == []


def test_variables_of_others_do_not_matter(
    outcome: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Kubernetes service named echoframe makes the last ones.
    for name in ("HOME", "VERSION", "PORT_7007_TCP", "SERVICE_HOST", "SERVICE_PORT"):
        monkeypatch.setenv(f"ECHOFRAME_{name}", "5")
    # Empty is not set.
    monkeypatch.setenv("ECHOFRAME_BIDN", "")
    assert main(["serve"]) == 0
    assert len(outcome) == 1


def test_a_wrong_variable_that_is_overruled_does_not_matter(
    outcome: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOFRAME_BACKLOG", "x")
    assert main(["serve", "--backlog", "5"]) == 0
    assert outcome[0].backlog == 5


def test_a_port_file_that_cannot_be_written(
    outcome: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port-file", str(tmp_path / "nosuch" / "port")]) == 3
    assert main(["serve", "--port-file", str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("cannot write the port to") == 2
    assert list(tmp_path.iterdir()) == []
    assert outcome == []
