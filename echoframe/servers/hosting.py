"""What somebody else's server brings along: a listener of its own, conversations in threads of
its own, and the names that the stdlib has for what is ours.

A server of our own (base.py) makes its listeners itself and replaces what is here for them.
"""

from __future__ import annotations

import functools
import logging
import select
import socket
import socketserver
import warnings
from typing import Any, ClassVar

from .accepting import Accepting
from .apart import keep_apart_in
from .kernel import received
from .life import Connection
from .rows import Cells, loose_row
from .standard import standard_classes
from .steps import Handshake

__all__ = ["Hosting", "own_loop"]

logger = logging.getLogger("echoframe.server")

_PACKAGE = f"{__package__}."

# Any host: it has no name of its own.
_ANY = ("", "0.0.0.0", "::")


class Hosting(Accepting):
    """What makes a mix-in out of a server."""

    # HTTPServer asks the resolver for the name of its own host when it binds, which may take
    # seconds and is used for nothing but CGI. True lets it.
    resolve_names: bool = False

    # It is a server of the program's that has a mix-in, and not one of ours.
    is_hosted: ClassVar[bool] = True

    # Whoever wrote the program has never heard of us, and means something else by our names.
    knows_no_names: ClassVar[bool] = False

    # The listener that was made ours, and whether its handshakes are.
    _readied: Any = None
    _shakes_later = False
    # What is asked whether somebody else has come, for this descriptor.
    _glance: tuple[int, Any] | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.is_hosted and socketserver.BaseServer in cls.__mro__:
            keep_apart_in(cls)
        if own_loop(cls) is not None:
            _lend_the_loop()
        order = cls.__mro__
        if socketserver.BaseServer not in order or order.index(Hosting) < order.index(
            socketserver.BaseServer
        ):
            return
        mix_in = next((base for base in cls.__bases__ if issubclass(base, Hosting)), None)
        server = next(
            (base for base in cls.__bases__ if issubclass(base, socketserver.BaseServer)), None
        )
        if mix_in is None or server is None or server is mix_in:
            # A subclass of one that was warned of.
            return
        wrong = f"{mix_in.__name__} changes nothing behind {server.__name__}"
        if cls.knows_no_names:
            # Nor does the stdlib's there, and nobody has asked for a change.
            logger.warning("%s, where %s has it", wrong, cls.__name__)
            return
        right = f"class {cls.__name__}({mix_in.__name__}, {server.__name__})"
        warnings.warn(f"{wrong}; write {right}", RuntimeWarning, stacklevel=2)

    def server_bind(self) -> None:
        """Bind the listener. May be extended; call super()."""
        owner = _next_owner(type(self), "server_bind")
        address = getattr(self, "server_address", None)
        if self.resolve_names or not _asks_for_names(owner) or not isinstance(address, tuple):
            super().server_bind()  # type: ignore[misc]  # socketserver.TCPServer's
            return
        server: Any = self
        socketserver.TCPServer.server_bind(server)
        host, server.server_port = server.server_address[:2]
        server.server_name = socket.gethostname() if host in _ANY else host
        if hasattr(owner, "setup_environ"):
            server.setup_environ()

    def _adopt(self) -> None:
        super()._adopt()
        if self.socket is not self._readied:
            self._ready_listener()
            self._readied = self.socket

    def _ready_listener(self) -> None:
        """Give a listener that a program has made our backlog, and take its handshakes."""
        listener, kind = self.socket, type(self)
        try:
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except (OSError, AttributeError):
            # Something of the program's own.
            return
        if listens:
            # With five, as the stdlib has it, or ten, a burst loses some for a second.
            told = "backlog" in vars(self) or _owner(self, "backlog") is not _owner_of_settings()
            own: Any = getattr(self, "request_queue_size", 0)
            listener.listen(self.backlog if told else max(self.backlog, own))
        # Whoever looks at a peer's certificate before its conversation needs it by then.
        begins = _owner(self, "process_request")
        ours = (
            kind.get_request is socketserver.TCPServer.get_request
            and kind.verify_request is socketserver.BaseServer.verify_request
            and begins is not None
            and begins.__module__.startswith(_PACKAGE)
        )
        if ours and getattr(listener, "do_handshake_on_connect", False):
            listener.do_handshake_on_connect = False
            self._shakes_later = True

    def _serve_forever(self, poll_interval: float) -> None:
        """What the stdlib's serve_forever() is."""
        raise NotImplementedError

    def _is_another(self, listener: Any) -> bool:
        # A listener of the program's waits in accept() if nobody is there.
        number = listener.fileno()
        if self._glance is None or self._glance[0] != number:
            watch = select.poll()
            watch.register(number, select.POLLIN)
            self._glance = (number, watch)
        return bool(self._glance[1].poll(0))

    def _opens(self, connection: Connection) -> bool:
        """What comes before a conversation, in its own frame; False is "it comes to nothing"."""
        return not self._must_shake(connection) or self._shake(connection.request, connection)

    def _must_shake(self, connection: Connection) -> bool:
        later = self._shakes_later and not connection.shaken
        return later and hasattr(connection.request, "do_handshake")

    def _shake(self, request: Any, connection: Connection | None) -> bool:
        handshake = self._handshake(request, connection)
        handshake.run()
        if connection is not None:
            # So much was the handshake.
            connection.greeted = received(request)
        return handshake.failure is None

    def _handshake(self, request: Any, connection: Connection | None) -> Handshake:
        cells, row = self._cells_of(connection)
        return Handshake(request, cells, row, handshake_timeout=self.handshake_timeout)

    def _cells_of(self, connection: Connection | None) -> tuple[Cells, int]:
        # None is a program that calls these hooks on its own: nobody looks at its numbers.
        return (loose_row(), 0) if connection is None else (self._life.rows.cells, connection.row)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hold the conversation, here and now. Models replace it."""
        if self._opens(self._connection_of(request, client_address)):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)


def own_loop(kind: type[Any]) -> Any:
    """Give the class behind ours that has a serve_forever() of its own, if there is one."""
    own = _next_owner(kind, "serve_forever")
    return None if own is socketserver.BaseServer else own


@functools.cache
def _lend_the_loop() -> None:
    # It is the program's, which catches Ctrl-C or closes behind it; and it calls the
    # stdlib's, by name or by super(), where nothing of ours can stand. So that one asks
    # whose server it is, from the first class that has one on.
    real: Any = socketserver.BaseServer.serve_forever

    @functools.wraps(real)
    def serve_forever(self: Any, poll_interval: float = 0.5) -> None:
        if isinstance(self, Hosting):
            self._serve_forever(poll_interval)
        else:
            real(self, poll_interval)

    vars(socketserver)["BaseServer"].serve_forever = serve_forever


def _asks_for_names(owner: type[Any] | None) -> bool:
    known = (
        *standard_classes("http.server", "HTTPServer"),
        *standard_classes("wsgiref.simple_server", "WSGIServer"),
    )
    return owner in known


def _next_owner(kind: type[Any], name: str) -> type[Any] | None:
    order = kind.__mro__
    behind = order[order.index(Hosting) + 1 :]
    return next((cls for cls in behind if name in vars(cls)), None)


def _owner(server: Hosting, name: str) -> type[Any] | None:
    """Who set a class attribute."""
    if name in vars(server):
        return None
    return next((kind for kind in type(server).__mro__ if name in vars(kind)), None)


def _owner_of_settings() -> type[Any]:
    return next(kind for kind in Accepting.__mro__ if "backlog" in vars(kind))
