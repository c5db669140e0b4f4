"""Text to place: "tcp://127.0.0.1:7007" and back.

An Address says where; it opens nothing and looks up no names. How a socket comes
of it is in transports/.
"""

from __future__ import annotations

import socket
from typing import Any

from .errors import AddressError, suggest
from .printing import visible

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "SCHEMES", "Address"]

# Loopback: a server is open to other machines only when somebody said so.
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7007

SCHEMES = ("tcp", "tls", "unix", "udp", "fd")

# What the kernel's sockaddr_un takes, less the closing zero. (104 on BSD and macOS,
# where the kernel will say so itself.)
UNIX_PATH_MAX = 107


class Address:
    """A place to listen at or to connect to. Immutable; equal when the text is.

    tcp://HOST:PORT     an IPv4 or [IPv6] address or a host name; an empty HOST is
                        every interface; without :PORT it is 7007
    tls://HOST:PORT     the same, encrypted
    udp://HOST:PORT     the same, for datagrams
    unix://PATH         a socket file
    unix://@NAME        a name in Linux's abstract namespace
    fd://N              a socket that this process inherited
    HOST:PORT           means tcp
    (host, port)        means tcp, as in socketserver

    Errors: AddressError says what is wrong with the text.
    """

    __slots__ = ("host", "path", "port", "scheme")

    scheme: str
    host: str
    port: int
    # The path of unix, with a leading "@" for an abstract name; the number of fd.
    path: str

    def __init__(
        self,
        scheme: str = "tcp",
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        path: str = "",
    ) -> None:
        for name, value in (("scheme", scheme), ("host", host), ("port", port), ("path", path)):
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # The usual way to copy and to pickle would set attributes.
        return Address, (self.scheme, self.host, self.port, self.path)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Address cannot be changed; make another one to set {name!r}")

    @classmethod
    def parse(cls, place: Any) -> Address:
        """Read an address from text, from a socketserver-shaped tuple, or from an Address."""
        if isinstance(place, Address):
            return place
        if isinstance(place, tuple):
            return cls._from_tuple(place)
        if not isinstance(place, str):
            raise AddressError(
                f"{_shown(place)} is not an address; write it as in tcp://127.0.0.1:7007"
            )
        scheme, separator, rest = place.partition("://")
        if not separator:
            return cls._from_host_port("tcp", place, place)
        if scheme in ("tcp", "tls", "udp"):
            return cls._from_host_port(scheme, rest, place)
        if scheme == "unix":
            return cls._from_path(rest, place)
        if scheme == "fd":
            if not (rest.isascii() and rest.isdigit()) or len(rest) > 9:
                raise AddressError(f"{place!r}: {rest!r} is not a file descriptor's number")
            return cls(scheme, "", 0, str(int(rest)))
        raise AddressError(f"unknown scheme {scheme!r} in {place!r}; {suggest(scheme, SCHEMES)}")

    @classmethod
    def of(cls, name: Any, family: int, kind: int = socket.SOCK_STREAM) -> Address:
        """The address behind what getsockname(), accept() or recvfrom() gave."""
        if family == getattr(socket, "AF_UNIX", None):
            if isinstance(name, bytes):
                path = name.decode(errors="surrogateescape")
                name = "@" + path[1:] if path.startswith("\0") else path
            return cls("unix", "", 0, name)
        host, port = name[0], name[1]
        # An IPv4 peer of a dual-stack listener: its own name is easier to read.
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        # The same link-local address may exist behind every interface.
        if len(name) > 3 and name[3] and "%" not in host:
            host = f"{host}%{name[3]}"
        return cls("udp" if kind == socket.SOCK_DGRAM else "tcp", host, port)

    @classmethod
    def _from_tuple(cls, place: tuple[Any, ...]) -> Address:
        if len(place) not in (2, 4) or not isinstance(place[0], str):
            raise AddressError(f"{_shown(place)} is not a (host, port) pair")
        port = place[1]
        if not isinstance(port, int) or isinstance(port, bool):
            raise AddressError(f"the port in {_shown(place)} is not a number")
        host = place[0]
        if len(place) == 4 and "%" not in host and place[3]:
            host = f"{host}%{place[3]}"
        return cls("tcp", _checked_host(host, place), _checked_port(port, place))

    @classmethod
    def _from_host_port(cls, scheme: str, text: str, place: str) -> Address:
        host: str
        if text.startswith("["):
            host, bracket, behind = text[1:].partition("]")
            if not bracket or (behind and not behind.startswith(":")):
                raise AddressError(
                    f"{place!r}: write an IPv6 address and its port as in [::1]:7007"
                )
            if ":" not in host:
                raise AddressError(f"{place!r}: {host!r} in brackets is not an IPv6 address")
            colon, port = behind[:1], behind[1:]
        else:
            host, colon, port = text.partition(":")
            if ":" in port:
                raise AddressError(
                    f"{place!r}: write an IPv6 address in brackets, as in [::1]:7007"
                )
        if not text:
            raise AddressError(f"{place!r} names no place; write it as in tcp://127.0.0.1:7007")
        if not colon:
            if host.isdigit():
                # As a host it would be a number for an IPv4 address, which nobody means.
                raise AddressError(f"{place!r} is a port without a colon; write it as in :7007")
            return cls(scheme, _checked_host(host, place), DEFAULT_PORT)
        if not (port.isascii() and port.isdigit()) or len(port) > 9:
            raise AddressError(f"{place!r}: {port!r} is not a port number")
        return cls(scheme, _checked_host(host, place), _checked_port(int(port), place))

    @classmethod
    def _from_path(cls, path: str, place: str) -> Address:
        if path in ("", "@"):
            raise AddressError(f"{place!r} names no path; write it as in unix:///tmp/echo.sock")
        if "\0" in path:
            raise AddressError(f"{place!r}: a path cannot hold a zero byte")
        if path.translate(_CONTROLS) != path:
            # The kernel would take it; terminals and logs would obey it.
            raise AddressError(f"{place!r}: a path with control characters is not taken")
        try:
            length = len(path.encode(errors="surrogateescape"))
        except UnicodeError:
            raise AddressError(f"{place!r}: that path cannot be written in UTF-8") from None
        # The "@" of an abstract name stands for its leading zero byte.
        if length > UNIX_PATH_MAX:
            raise AddressError(
                f"{place!r}: the path is longer than the {UNIX_PATH_MAX} bytes that a Unix "
                "socket's name may have"
            )
        return cls("unix", "", 0, path)

    @property
    def name(self) -> str:
        """The address as people say it: HOST:PORT, a path, or a number."""
        if self.scheme in ("tcp", "tls", "udp"):
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{host}:{self.port}"
        # A peer may have named its end as it likes.
        return self.path.translate(_CONTROLS)

    @property
    def sockaddr_un(self) -> str:
        """What bind() and connect() take for a unix address."""
        return "\0" + self.path[1:] if self.path.startswith("@") else self.path

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"

    def __repr__(self) -> str:
        return f"Address.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


# Control characters, and the line ends that only Unicode knows, to their escapes. Other
# letters that cannot be printed stay: they may be bytes of a path that is not UTF-8.
_CONTROLS = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}


def _checked_host(host: str, place: object) -> str:
    if any(letter.isspace() or not letter.isprintable() or letter in "/@[]" for letter in host):
        raise AddressError(f"{_shown(place)}: {host!r} is not a host name")
    return host


def _checked_port(port: int, place: object) -> int:
    if not 0 <= port <= 65535:
        raise AddressError(f"{_shown(place)}: port {_shown(port)} is not between 0 and 65535")
    return port


def _shown(place: object) -> str:
    try:
        return visible(repr(place))
    except Exception:
        # Anything may be given for an address, also numbers of so many digits that
        # Python does not write them.
        return f"<{type(place).__name__}>"
