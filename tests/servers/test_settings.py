"""The one table of limits: what it takes, and that classes follow it."""

from __future__ import annotations

import re
import socketserver
from typing import Any

import pytest

from echoframe.errors import SettingError
from echoframe.servers import MODELS, Lifecycle, Server, SingleServer, ThreadingMixIn, ThreadServer
from echoframe.servers.settings import SETTINGS, Setting, check_settings

from ..helpers import echo


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_each_has_a_unit_a_meaning_a_reason_and_a_flag(setting: Setting) -> None:
    assert SETTINGS[setting.name] is setting
    units = {"connections", "bytes", "seconds", "threads", "processes", "networks"}
    assert setting.unit in units or setting.read
    assert setting.what
    assert setting.reason
    assert setting.flag == "--" + setting.name.replace("_", "-")
    assert setting.check(setting.default) == setting.default
    home = MODELS[setting.model] if setting.model else Server
    assert getattr(home, setting.name) == setting.default
    assert hasattr(Server, setting.name) is not bool(setting.model)


def test_a_mix_in_ends_no_silent_connection_of_a_foreign_server_unless_asked() -> None:
    ours = ("idle_timeout", "first_byte_timeout", "write_timeout", "total_timeout")
    assert [getattr(Lifecycle, name) for name in ours] == [0, 0, 0, 0]
    for name, setting in SETTINGS.items():
        if name not in ours and not setting.model:
            assert getattr(Lifecycle, name) == setting.default


def test_the_documented_defaults_are_these() -> None:
    assert {name: setting.default for name, setting in SETTINGS.items()} == {
        "max_connections": 1000,
        "backlog": 4096,
        "overload": "wait",
        "max_per_peer": 0,
        "allow": (),
        "deny": (),
        "max_message": 1024 * 1024,
        "write_buffer": 256 * 1024,
        "handshake_timeout": 10.0,
        "idle_timeout": 600.0,
        "first_byte_timeout": 120.0,
        "write_timeout": 30.0,
        "total_timeout": 0.0,
        "drain_timeout": 10.0,
        "drain_quiet": 0.1,
        "linger_timeout": 1.0,
        "threads": 32,
        "queue_size": 1024,
        "keep_alive_timeout": 60.0,
        "workers": 0,
        "max_requests": 0,
        "max_requests_jitter": 0,
    }


def test_aliases_are_nobodys_name() -> None:
    aliases = [alias for setting in SETTINGS.values() for alias in setting.aliases]
    assert len({*aliases, *SETTINGS}) == len(aliases) + len(SETTINGS)


def test_values_come_back_as_they_are_kept() -> None:
    checked = check_settings({"backlog": 5, "idle_timeout": 3, "drain_quiet": 0.5})
    assert checked == {"backlog": 5, "idle_timeout": 3.0, "drain_quiet": 0.5}
    assert isinstance(checked["idle_timeout"], float)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("backlog", "5", "backlog takes a number of connections, not '5'"),
        ("backlog", 5.0, "backlog takes a number of connections, not 5.0"),
        ("backlog", True, "backlog takes a number of connections, not True"),
        ("backlog", None, "backlog takes a number of connections, not None"),
        ("backlog", 0, "backlog must be between 1 and 1,000,000 connections, not 0"),
        ("idle_timeout", "soon", "idle_timeout takes a number of seconds, not 'soon'"),
        ("idle_timeout", -1, "idle_timeout must be between 0 and 1,000,000 seconds, not -1"),
        (
            "drain_timeout",
            float("nan"),
            "drain_timeout must be between 0 and 1,000,000 seconds, not nan",
        ),
        (
            "max_connections",
            10**11,
            "max_connections must be between 1 and 1,000,000 connections, not 100,000,000,000",
        ),
        (
            "idle_timeout",
            float("inf"),
            "idle_timeout must be between 0 and 1,000,000 seconds, not inf",
        ),
        ("max_message", 0, "max_message must be between 1 and 2,147,483,648 bytes, not 0"),
    ],
)
@pytest.mark.parametrize("model", MODELS)
def test_what_a_setting_cannot_be_is_a_sentence(
    model: str, name: str, value: Any, sentence: str
) -> None:
    with pytest.raises(SettingError) as caught:
        MODELS[model]("tcp://127.0.0.1:0", "echo", **{name: value})
    assert str(caught.value) == sentence


def test_what_a_model_does_not_have_is_a_sentence() -> None:
    with pytest.raises(SettingError, match=r"workers is for the model 'prefork', not for 'fork'"):
        MODELS["fork"]("tcp://127.0.0.1:0", "echo", workers=2)


def test_an_unknown_keyword_is_a_type_error_with_the_near_miss() -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'back_log'; did you mean 'backlog'\?"):
        check_settings({"back_log": 5})
    with pytest.raises(TypeError, match=r"did you mean 'framing'"):
        check_settings({"framin": 5}, ("framing",))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("idle_timeout", "30", "idle_timeout takes a number of seconds, not '30'"),
        ("write_timeout", None, "write_timeout takes a number of seconds, not None"),
        ("max_connections", 0, "max_connections must be between 1 and 1,000,000 connections"),
        ("max_per_peer", -1, "max_per_peer must be between 0 and"),
        ("overload", "bogus", "overload "),
        ("allow", [""], "allow takes networks, as in 10.0.0.0/8, not ['']"),
    ],
)
def test_a_class_attribute_that_cannot_be_is_a_sentence_too(
    name: str, value: object, said: str
) -> None:
    own = type("Own", (ThreadServer,), {name: value})
    with pytest.raises(SettingError, match=re.escape(said)):
        own("tcp://127.0.0.1:0", echo)
    # Nobody but serve_forever() is ours there.
    foreign = type("Foreign", (ThreadingMixIn, socketserver.TCPServer), {name: value})
    with (
        foreign(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server,
        pytest.raises(SettingError, match=re.escape(said)),
    ):
        server.serve_forever()


def test_what_a_model_does_not_have_may_not_be_a_class_attribute_either() -> None:
    own = type("Own", (SingleServer,), {"overload": "drop"})
    with pytest.raises(SettingError, match="means nothing to the model 'single'"):
        own("tcp://127.0.0.1:0", echo)


def test_networks_of_mapped_addresses_are_those_of_ipv4() -> None:
    found = SETTINGS["deny"].check(["::ffff:10.0.0.0/104", "::ffff:127.0.0.1", "::/0"])
    assert [str(network) for network in found] == ["10.0.0.0/8", "127.0.0.1/32", "::/0"]
