"""The limits and settings of a server: one table, read by classes, commands and docs.

Every one is a class attribute of Lifecycle (so that a subclass may set it), a
keyword of the constructors, a flag, an ECHOFRAME_ variable and a TOML key, under
the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..errors import SettingError, suggest
from .turnstile import read_networks, read_overload

__all__ = [
    "SETTINGS",
    "Setting",
    "check_settings",
    "means_something",
    "read_settings",
    "with_settings",
]


class Setting(NamedTuple):
    """One limit: its name, unit, default and the reason for the default."""

    name: str
    default: Any
    # "connections", "bytes", "seconds", ...
    unit: str
    what: str
    reason: str
    least: int | float = 0
    # Above this it is a mistake: a table that no machine has memory for, a wait that
    # poll() cannot count.
    most: int | float = 1_000_000
    # Other names under which fingers know the flag.
    aliases: tuple[str, ...] = ()
    # The one model that it is for; empty is all of them. The one that it is not for.
    model: str = ""
    but: str = ""
    # What is no number: from a value, or from its text, to what is kept.
    read: Callable[[Any], Any] | None = None
    # Off on somebody else's server, where silence may be part of the conversation.
    ours: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any) -> Any:
        """Give the value as it is kept.

        Errors: SettingError for what this setting cannot be.
        """
        if self.read is not None:
            try:
                return self.read(value)
            except SettingError as error:
                raise SettingError(f"{self.name} {error}") from None
        kind = float if isinstance(self.default, float) or self.unit == "seconds" else int
        if isinstance(value, bool) or not isinstance(
            value, int | (float if kind is float else int)
        ):
            raise SettingError(f"{self.name} takes a number of {self.unit}, not {value!r}")
        # nan is between nothing.
        if not self.least <= value <= self.most:
            raise SettingError(
                f"{self.name} must be between {self.least:,} and {self.most:,} {self.unit}, "
                f"not {value:,}"
            )
        return kind(value)


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            "max_connections",
            1000,
            "connections",
            "open at once; more wait in the kernel's backlog",
            "a thousand threads are what one machine carries without a thought; "
            "fork takes half, since a process costs more, and aio what the limit of descriptors "
            "leaves",
            least=1,
        ),
        Setting(
            "backlog",
            4096,
            "connections",
            "that the kernel keeps until they are accepted",
            "a burst must fit: the kernel refuses or delays what does not; it may allow less, "
            "which the log says",
            least=1,
        ),
        Setting(
            "max_message",
            1024 * 1024,
            "bytes",
            "in one message, at most; raw messages are never longer than 65,536",
            "more than any text protocol needs in one piece",
            least=1,
            most=2**31,
        ),
        Setting(
            "write_buffer",
            256 * 1024,
            "bytes",
            "of replies that may wait to be sent before the next message is answered",
            "fills a socket buffer in one go, and bounds what a peer who never reads costs",
            least=1,
            most=2**31,
        ),
        Setting(
            "overload",
            "wait",
            "wait, refuse, refuse:TEXT or drop",
            "what comes when no more may be open: wait in the backlog, be closed (behind a "
            "text), or be reset",
            "whoever waits a moment is served after all; a balancer in front would rather know",
            but="single",
            read=read_overload,
        ),
        Setting(
            "max_per_peer",
            0,
            "connections",
            "from one host, or of one user of a socket file; 0 is any number. More are turned "
            "away, closed where overload says wait",
            "many people may stand behind one address; whom you know better, you can limit",
            but="single",
        ),
        Setting(
            "allow",
            (),
            "networks",
            "that may connect, as in 10.0.0.0/8; none is everybody",
            "who may come is decided by where it listens: here alone, unless told otherwise",
            read=read_networks,
        ),
        Setting(
            "deny",
            (),
            "networks",
            "that may not, even if allowed",
            "nobody is known to be bad",
            read=read_networks,
        ),
        Setting(
            "handshake_timeout",
            10.0,
            "seconds",
            "for a peer to prove itself and agree on encryption (tls)",
            "two round trips take a second on a bad line",
        ),
        Setting(
            "idle_timeout",
            600.0,
            "seconds",
            "of waiting for a peer that sends nothing, until its connection is cut; 0 is never",
            "people type, and go for tea",
            aliases=("timeout",),
            ours=True,
        ),
        Setting(
            "first_byte_timeout",
            120.0,
            "seconds",
            "for a peer to say anything at all, until its connection is cut; 0 is never",
            "who connects has something to say, and those who only hold a place should not "
            "hold it long",
            ours=True,
        ),
        Setting(
            "write_timeout",
            30.0,
            "seconds",
            "in which a peer takes nothing of what waits to be sent, until its connection is "
            "cut; 0 is never",
            "the worst lines stand still for some seconds; who never reads must not keep a "
            "worker, nor memory",
            ours=True,
        ),
        Setting(
            "total_timeout",
            0.0,
            "seconds",
            "for a whole conversation, whatever happens in it; 0 is any time",
            "long conversations are what many servers are for",
            ours=True,
        ),
        Setting(
            "drain_timeout",
            10.0,
            "seconds",
            "that conversations get to finish when the server stops",
            "longer than any sensible answer, shorter than a supervisor's patience",
            aliases=("graceful_timeout",),
        ),
        Setting(
            "drain_quiet",
            0.1,
            "seconds",
            "of silence after which a connection counts as idle while the server stops",
            "a peer that is in the middle of something says so within a round trip",
        ),
        Setting(
            "linger_timeout",
            1.0,
            "seconds",
            "that a connection is kept open behind the last reply, until the peer has it",
            "bytes that arrive after a close would make the kernel throw the reply away",
        ),
        Setting(
            "threads",
            32,
            "threads",
            "of pool that answer, at most; they are started when there is something to do",
            "handlers that wait leave the processor free for so many others; a silent peer "
            "needs none",
            least=1,
            most=10_000,
            model="pool",
        ),
        Setting(
            "queue_size",
            1024,
            "connections",
            "of pool that are ready and wait for a thread, until no more are accepted",
            "as long as it takes a thousand short answers, and nobody should wait longer",
            least=1,
            model="pool",
        ),
        Setting(
            "keep_alive_timeout",
            60.0,
            "seconds",
            "that a handler of http.server's kind waits for its next request, on pool; "
            "0 is for ever",
            "longer than a browser keeps a connection that it needs, and clients must open a new "
            "one anyway",
            aliases=("keep_alive",),
            model="pool",
        ),
        Setting(
            "workers",
            0,
            "processes",
            "that accept; 0 (auto, as a flag) is one for each core",
            "what computes in one of them has a core to itself",
            most=1024,
            model="prefork",
        ),
        Setting(
            "max_requests",
            0,
            "connections",
            "that a worker serves until a new one takes its place; 0 is any number",
            "handlers that leak are better mended, but not always at once",
            most=10**12,
            model="prefork",
        ),
        Setting(
            "max_requests_jitter",
            0,
            "connections",
            "that it serves more than that, at most; each worker throws its own dice",
            "or all of them would be renewed at the same time",
            most=10**9,
            model="prefork",
        ),
    )
}

Class = TypeVar("Class", bound=type)


def with_settings(cls: Class) -> Class:
    """Give a class the defaults as class attributes, but for those that it sets itself.

    What is for one model only has its attribute there.
    """
    for setting in SETTINGS.values():
        if setting.name not in vars(cls) and not setting.model:
            setattr(cls, setting.name, 0.0 if setting.ours else setting.default)
    return cls


def means_something(kind: Any, name: str) -> bool:
    """Tell whether a class of servers has a setting, or anything, of this name."""
    setting = SETTINGS.get(name)
    return hasattr(kind, name) and not (setting and setting.but and setting.but == kind.model)


def read_settings(server: Any) -> None:
    """Check what a server has for each setting, wherever it was set, and keep it as it is kept.

    Errors: SettingError for what cannot be, and for what the server's model does not have.
    """
    for name, setting in SETTINGS.items():
        kept = getattr(server, name, setting.default)
        if kept is not setting.default and not _is_ours(server, name):
            value = _checked(setting, kept, server)
            if value != kept:
                setattr(server, name, value)


def _is_ours(server: Any, name: str) -> bool:
    # Some models have a default of their own, which nobody could give them.
    if name in vars(server):
        return False
    holder = next(cls for cls in type(server).__mro__ if name in vars(cls))
    return holder.__module__.partition(".")[0] == __package__.partition(".")[0]


def check_settings(
    given: dict[str, Any], also: tuple[str, ...] = (), server: Any = None
) -> dict[str, Any]:
    """Give keyword settings, checked; `also` are other keywords that would have been taken.

    Errors: TypeError for an unknown keyword, as for any call; SettingError for a
    value that cannot be, and for what the server's model does not have.
    """
    checked = {}
    for name, value in given.items():
        if name not in SETTINGS:
            raise TypeError(f"unknown setting {name!r}; {suggest(name, [*SETTINGS, *also])}")
        setting = SETTINGS[name]
        if server is not None and not hasattr(server, name):
            raise SettingError(
                f"{name} is for the model {setting.model!r}, not for {server.model!r}"
            )
        checked[name] = _checked(setting, value, server)
    return checked


def _checked(setting: Setting, value: Any, server: Any) -> Any:
    kept = setting.check(value)
    means_nothing = setting.but and setting.but == getattr(server, "model", "")
    if means_nothing and kept != setting.default:
        raise SettingError(
            f"{setting.name} means nothing to the model {setting.but!r}, which serves one at a "
            "time while the others wait in the backlog; choose another model"
        )
    return kept
