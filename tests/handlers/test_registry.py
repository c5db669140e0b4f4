from __future__ import annotations

import functools
import socketserver
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echoframe.errors import SettingError, UnknownHandler
from echoframe.framing import LengthFraming
from echoframe.handlers import (
    CommandHandler,
    EchoHandler,
    FunctionHandler,
    Handler,
    Peer,
    Protocol,
    Registry,
    registry,
    summary,
)


def shout(message: bytes) -> bytes:
    """Answer in capitals.

    And say no more.
    """
    return message.upper()


class Counting(Handler):
    framing = "length"
    client_framing = LengthFraming(80)
    reply_size = len

    def on_message(self, message: bytes) -> bytes:
        return message

    def also(self, message: bytes) -> bytes:
        return message


class Empty(Handler):
    pass


# ------------------------------------------------------------------- protocols


def test_a_protocols_facts_come_from_the_class() -> None:
    protocol = Protocol.of(Counting)
    assert protocol == ("Counting", Counting, "length", Counting.client_framing, len)


def test_what_is_said_at_registration_comes_before_what_the_class_says() -> None:
    mine = Registry()
    protocol = mine.add("mine", Counting, framing="line", client_framing="auto", reply_size=hash)
    assert tuple(protocol) == ("mine", Counting, "line", "auto", hash)
    assert mine.find("mine") is protocol


def test_without_words_a_protocol_is_lines_on_both_sides() -> None:
    assert Protocol.of(shout) == ("shout", shout, "line", "line", None)
    assert Protocol.of(shout, framing="raw") == ("shout", shout, "raw", "raw", None)


def test_a_function_may_carry_the_facts_as_attributes() -> None:
    def own(message: bytes) -> bytes:
        return message

    own.framing = "fixed:4"  # type: ignore[attr-defined]  # functions have attributes
    assert Protocol.of(own)[2:] == ("fixed:4", "fixed:4", None)


def test_a_partial_of_a_class_gives_its_handlers_arguments() -> None:
    class Greeter(Handler):
        framing = "raw"

        def __init__(self, word: str) -> None:
            self.word = word

        def on_message(self, message: bytes) -> str:
            return self.word

    made = Protocol.of(functools.partial(Greeter, "hello"))
    assert (made.name, made.framing) == ("Greeter", "raw")
    assert made.open(None).on_message(b"") == "hello"


def test_a_callable_without_a_name_is_called_after_its_class() -> None:
    class Called:
        def __call__(self, message: bytes) -> bytes:
            return message

    assert Protocol.of(Called()).name == "Called"


class Needing(Counting):
    def __init__(self, shared: object, more: int = 0, *, key: str) -> None:
        super().__init__()


class Generous(Counting):
    def __init__(self, more: int = 0, *rest: object, key: str = "", **others: object) -> None:
        super().__init__()


def test_a_class_that_needs_arguments_is_refused_before_anybody_comes() -> None:
    with pytest.raises(SettingError) as caught:
        Protocol.of(Needing).opener()
    assert str(caught.value) == (
        "Needing needs arguments (shared, key), and each connection gets a new one without any: "
        "give functools.partial(Needing, its arguments)"
    )
    assert Protocol.of(functools.partial(Needing, 1, key="")).open()
    assert Protocol.of(Generous).open()
    # Whoever only asks such a server needs none of its objects.
    assert Protocol.of(Needing).framing == "length"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("game.shout", "unknown handler 'game.shout'; did you mean 'game:shout'? known: "),
        ("a.game.shout", "did you mean 'a.game:shout'? known: "),
        ("game.py", "a handler in that file is named as in game:shout; known: "),
        ("game.py:shout", "(wanted for 'game.py:shout'); did you mean 'game:shout'?"),
        ("no module.it", "unknown handler 'no module.it'; known: "),
        ("game.", "unknown handler 'game.'; known: "),
        (".shout", "unknown handler '.shout'; known: "),
        ("shouts", "unknown handler 'shouts'; known: "),
    ],
)
def test_a_name_as_python_writes_it_is_answered_with_ours(name: str, hint: str) -> None:
    with pytest.raises(UnknownHandler) as caught:
        registry.find(name)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (5, "5 is not a handler: give a name, a function of one message, or a Handler subclass"),
        (None, "None is not a handler"),
        (EchoHandler(), "EchoHandler was given as an object, and each connection needs one"),
        (lambda: b"", "<lambda> takes no arguments; a function that is a handler takes one"),
        (lambda a, b: b"", "<lambda> takes 2 arguments; a function that is a handler takes one"),
        (Empty, "Empty cannot answer: it has no on_message()"),
        (dict, "dict is a class, but not a Handler subclass"),
        (socketserver.StreamRequestHandler, "is a class, but not a Handler subclass"),
    ],
)
def test_what_cannot_answer_messages_is_refused_in_a_sentence(handler: Any, sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        Protocol.of(handler)
    assert sentence in str(caught.value)
    with pytest.raises(SettingError):
        Registry().find(handler)


def test_each_conversation_gets_a_handler_of_its_own_that_knows_its_peer() -> None:
    protocol = Protocol.of(Counting)
    peer = Peer("a", "b", "tcp")
    one, other = protocol.open(peer), protocol.open()
    assert one is not other
    assert isinstance(one, Counting)
    assert one.peer is peer
    assert other.peer.remote == "nobody"
    assert isinstance(Protocol.of(shout).open(peer), FunctionHandler)


def test_the_summary_is_the_first_line_of_what_a_handler_says_about_itself() -> None:
    assert summary(Protocol.of(shout)) == "Answer in capitals."
    assert summary(Protocol.of(Counting)) == ""


# ------------------------------------------------------------------- registries


def test_the_shared_registry_knows_the_built_in_handlers() -> None:
    assert {"echo", "command", "upper", "wait", "work"} <= set(registry)
    assert registry.find("echo").handler is EchoHandler
    assert registry.find("command").handler is CommandHandler
    assert all(summary(registry.find(name)) for name in ("echo", "command", "upper"))


def test_a_decorator_registers_and_gives_back_what_it_decorates() -> None:
    mine = Registry()

    @mine.handler("shout", framing="raw", reply_size=len)
    def own(message: bytes) -> bytes:
        return message.upper()

    assert own(b"a") == b"A"
    assert mine.find("shout") == ("shout", own, "raw", "raw", len)
    assert "shout" not in registry


def test_a_handler_itself_brings_the_protocol_under_which_it_is_registered() -> None:
    mine = Registry()
    methods = Counting()
    added = [
        mine.add("function", shout, framing="auto"),
        mine.add("class", Counting, framing="line"),
        # A bound method is a new object each time it is asked for.
        mine.add("method", methods.also, framing="raw"),
    ]
    assert [mine.find(handler) for handler in (shout, Counting, methods.also)] == added
    assert mine.find(added[0]) is added[0]
    assert mine.find(EchoHandler) == Protocol.of(EchoHandler)


@pytest.mark.parametrize("name", ["", "a:b", " a", "a ", "\n"])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="cannot be a handler's name"):
        Registry().add(name, shout)


def test_a_name_that_is_taken_is_refused_with_those_that_are() -> None:
    mine = Registry()
    mine.add("shout", shout)
    mine.add("other", shout)
    with pytest.raises(SettingError) as caught:
        mine.add("shout", shout)
    assert str(caught.value) == (
        "the handler name 'shout' is taken; choose another one (known: other, shout)"
    )


def test_an_unknown_name_is_refused_with_the_near_misses_and_what_is_known() -> None:
    mine = Registry()
    for name in ("echo", "command", "shout"):
        mine.add(name, shout)
    with pytest.raises(UnknownHandler) as caught:
        mine.find("comand")
    assert isinstance(caught.value, LookupError)
    assert str(caught.value) == (
        "unknown handler 'comand'; did you mean 'command'? known: command, echo, shout"
    )


def test_a_registry_asks_its_parent_and_does_not_hide_it() -> None:
    mine = Registry(registry)
    mine.add("shout", shout)
    assert mine.find("echo") is registry.find("echo")
    assert list(mine)[-1] == "shout"
    assert "shout" in mine
    assert "shout" not in registry
    with pytest.raises(SettingError, match="'echo' is taken"):
        mine.add("echo", shout)


# -------------------------------------------------------------- module:attribute


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    # As for the installed command, and unlike `python -m`.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


OWN = """
import echoframe.handlers

def shout(message):
    return message.upper()

class Space:
    class Inner(echoframe.handlers.Handler):
        framing = "raw"
        def on_message(self, message):
            return message

number = 5
again = "own_handlers:shout"
"""


def test_a_module_of_the_current_folder_is_found_first(folder: Path) -> None:
    # A module of this name exists elsewhere, too.
    sys.modules.pop("this", None)
    (folder / "this.py").write_text("def here(message): return b'here'")
    found = registry.find("this:here")
    assert found.handler(b"") == b"here"
    assert (found.name, found.framing) == ("here", "line")
    assert "" not in sys.path


def test_an_attribute_may_be_deep_and_may_be_a_name_again(folder: Path) -> None:
    (folder / "own_handlers.py").write_text(OWN)
    assert registry.find("own_handlers:Space.Inner").framing == "raw"
    assert registry.find("own_handlers:again").handler(b"a") == b"A"


def test_what_a_name_stands_for_need_not_be_a_message_handler() -> None:
    assert registry.resolve("echo") is registry.find("echo")
    assert registry.resolve(shout) is shout
    found = registry.resolve("socketserver:StreamRequestHandler")
    assert found is socketserver.StreamRequestHandler
    with pytest.raises(SettingError, match="is a class, but not a Handler subclass"):
        registry.find("socketserver:StreamRequestHandler")


def test_a_package_in_the_current_folder_works_too(folder: Path) -> None:
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "deep.py").write_text(OWN)
    assert registry.find("own_package.deep:shout").handler(b"a") == b"A"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("own_handlers:", "'own_handlers:' is not module:attribute, as in game:shout"),
        (":shout", "':shout' is not module:attribute, as in game:shout"),
        (":", "':' is not module:attribute, as in game:shout"),
        (
            "own_handler:shout",
            "no module 'own_handler' in this folder or among the installed packages "
            "(wanted for 'own_handler:shout')",
        ),
        ("own_handlers.sub:shout", "no module 'own_handlers.sub' in this folder"),
        ("no.such.thing:shout", "no module 'no.such.thing' in this folder"),
        ("own_handlers:shuot", "'own_handlers' has no 'shuot'; did you mean 'shout'? known: "),
        ("own_handlers:Space.Iner", "'own_handlers' has no 'Space.Iner'; did you mean 'Inner'?"),
        ("own_handlers:shout.x", "'own_handlers' has no 'shout.x'; known: none"),
        (".own_handlers:shout", "'.own_handlers:shout' cannot be imported: TypeError: "),
        ("needs:shout", "'needs:shout' cannot be imported: No module named 'surely_not_there'"),
        ("broken:shout", "'broken:shout' cannot be imported: SyntaxError: "),
        ("raises:shout", "'raises:shout' cannot be imported: RuntimeError: not today"),
    ],
)
def test_what_cannot_be_imported_is_a_sentence(folder: Path, path: str, sentence: str) -> None:
    (folder / "own_handlers.py").write_text(OWN)
    (folder / "needs.py").write_text("import surely_not_there")
    (folder / "broken.py").write_text("def shout(:")
    (folder / "raises.py").write_text("raise RuntimeError('not today')")
    with pytest.raises(UnknownHandler) as caught:
        registry.find(path)
    assert sentence in str(caught.value)
    assert "" not in sys.path


def test_a_module_that_tidies_up_the_search_path_does_no_harm(folder: Path) -> None:
    (folder / "tidy.py").write_text("import sys\nsys.path.remove('')\ndef shout(m): return m")
    assert registry.find("tidy:shout").handler(b"a") == b"a"


def test_what_a_module_holds_may_still_be_no_handler(folder: Path) -> None:
    (folder / "own_handlers.py").write_text(OWN)
    with pytest.raises(SettingError, match="'own_handlers:number' is of type 'int' and not a "):
        registry.find("own_handlers:number")


def test_of_a_module_with_many_names_the_nearest_are_told(folder: Path) -> None:
    (folder / "crowded.py").write_text("".join(f"name_{number} = 1\n" for number in range(50)))
    with pytest.raises(UnknownHandler) as caught:
        registry.find("crowded:name_49x")
    told = str(caught.value).partition("known: ")[2].removesuffix(" and 42 more").split(", ")
    assert len(told) == 8
    assert told[0] == "name_49"


# ----------------------------------------------------------------- entry points


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages that register handlers, as pip would have installed them."""
    for name, lines in {
        "plugin": [
            "plugged = plugin:plugged",
            "class = plugin:Plugged",
            "ready = plugin:ready",
            "number = plugin:number",
            "gone = plugin:gone",
            "echo = plugin:plugged",
            "broken = plugin_broken:plugged",
        ],
        "second": ["plugged = plugin_broken:plugged"],
    }.items():
        info = folder / "site" / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[echoframe.handlers]", *lines, ""]))
    (folder / "site" / "plugin.py").write_text(
        "from echoframe.handlers import Handler, Protocol\n"
        "def plugged(message): return message\n"
        "class Plugged(Handler):\n"
        "    framing = 'raw'\n"
        "    def on_message(self, message): return message\n"
        "ready = Protocol('ready-made', plugged, 'length', 'length')\n"
        "number = 5\n"
    )
    (folder / "site" / "plugin_broken.py").write_text("raise RuntimeError('not today')")
    monkeypatch.syspath_prepend(str(folder / "site"))
    return folder


@pytest.mark.usefixtures("installed")
def test_entry_points_are_listed_once_and_without_being_imported() -> None:
    mine = Registry()
    own = mine.add("echo", shout)
    assert next(iter(mine)) == "echo"
    assert {"plugged", "class", "ready", "broken"} <= set(mine)
    assert len(list(mine)) == len(set(mine))
    sources = mine.sources()
    assert sources["echo"] is own
    assert sources["class"] == "plugin:Plugged"
    assert {"plugin", "plugin_broken"}.isdisjoint(sys.modules)


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_imported_when_it_is_named() -> None:
    mine = Registry()
    found = mine.find("class")
    assert (found.name, found.framing) == ("class", "raw")
    assert mine.find("ready")[0] == "ready-made"
    mine.add("echo", shout)
    assert mine.find("echo").handler is shout


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken", "cannot load 'broken' from plugin_broken:plugged: RuntimeError: not today"),
        ("gone", "cannot load 'gone' from plugin:gone: AttributeError: "),
        ("pluged", "unknown handler 'pluged'; did you mean 'plugged'? known: "),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_is_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UnknownHandler) as caught:
        Registry().find(name)
    assert sentence in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_an_entry_point_may_still_be_no_handler() -> None:
    with pytest.raises(SettingError, match="5 is not a handler"):
        Registry().find("number")
