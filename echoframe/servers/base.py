"""Server: the one file that translates socketserver into handlers and transports.

A model is a mix-in from another file and this class. What stands here is the same
for all of them: where to listen, which handler, and how a conversation begins and
ends. Where it runs is the model's; stop, drain and limits are lifecycle.py's.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..address import Address
from ..errors import SettingError
from ..framing import Framing, FramingSpec, make_framing
from ..handlers import Answer, Handler, HandlerSpec, Peer, Protocol, Registry, registry, runs_async
from ..printing import visible
from ..session import Session, takes_chunks
from ..transports import Listener, ListenOptions, bind
from ..transports.base import listen_error
from ..transports.certificates import ServerTls, server_context
from ..transports.tls import TlsFacts, facts_of, is_of_tls
from .apart import is_all_ours
from .conversation import Conversation, StraightConversation
from .crew import OURS
from .datagrams import answer_datagram
from .handover import Handover
from .kernel import has_gone, somaxconn
from .lazy import lazy
from .life import OVERHEARS, Connection, Report
from .lifecycle import Lifecycle
from .privileges import explained
from .settings import SETTINGS, check_settings, read_settings
from .steps import Goodbye
from .wake import NUDGE
from .watch import Watch

if TYPE_CHECKING:
    import ssl

__all__ = ["Server", "printable"]

logger = logging.getLogger("echoframe.server")

# The C method: a forked child comes by here, and pays for each page of Python that
# it touches.
_detach = socket.SocketType.detach

Talked = TypeVar("Talked", bound=Session)


class Server(Lifecycle, socketserver.TCPServer):
    """One handler, served at one or several addresses.

    server_address        an address ("tcp://127.0.0.1:7007", a (host, port) pair, an
                          Address), or a list of them
    RequestHandlerClass   a handler's name, "module:attribute", a function of one
                          message, a Handler subclass, or any socketserver handler class
    framing               where messages end; None is what the protocol says
    registry              where names are looked up; None is the shared one
    log_messages          log each message that arrives
    unix_mode, unix_owner permission bits and (user id, group id) of a socket file; the
                          owner is that of the takeover's as well
    tls_cert, tls_key     files, in PEM form, for addresses that begin with tls://
    tls_ca                the file of the CA whose peers' certificates are verified;
                          those that show none are served, unless
                          tls_require_client_cert is true
    tls                   a ready ssl.SSLContext instead of the four before
    takeover              a path: serve_forever() and run() offer the listeners there to
                          the next program of this user that is told the same path. If
                          somebody offers there now, its listeners are taken over, and it
                          drains as soon as this server serves
    any setting           see settings.py

    Callers use: address, addresses, serve_forever, run, stop, close, report, and
    reload, and `with`, which closes.
    Subclasses may replace the moments that socketserver names: verify_request,
    process_request, handle_error, service_actions, get_request; and extend
    finish_request, shutdown_request, close_request.
    Class attributes that are settings are listed in settings.py; a subclass may set
    them, and a keyword of the constructor wins.

    Errors: the constructor raises an EchoframeError, in a sentence, for an address,
    handler or setting that cannot work here; nothing is left open then.
    """

    # The word for this way of serving, in commands, reports and docs.
    model: ClassVar[str] = ""
    # What the tables of models say; a test compares them with what happens.
    at_once: ClassVar[str] = "1"
    memory: ClassVar[str] = "shared"
    forks: ClassVar[bool] = False
    # How many connections to accept before the first of their conversations begins.
    batch: ClassVar[int] = 1
    runs_async_handlers: ClassVar[bool] = False
    logs_connections: ClassVar[bool] = True
    is_hosted: ClassVar[bool] = False
    runs_handler_classes: ClassVar[bool] = True
    # Conversations go on only while somebody serves: in that thread they all run.
    only_while_serving: ClassVar[bool] = False
    # socketserver's hooks that this model never comes by.
    unused_hooks: ClassVar[tuple[str, ...]] = ()
    # TLS is asyncio's here, which tells a peer nothing when it refuses its handshake, and
    # for which both sides end together.
    encrypted_by_others: ClassVar[bool] = False
    # Whose loop it runs on, if it is somebody else's.
    runs_on: str = ""

    idle_timeout: float = SETTINGS["idle_timeout"].default
    first_byte_timeout: float = SETTINGS["first_byte_timeout"].default
    write_timeout: float = SETTINGS["write_timeout"].default
    total_timeout: float = SETTINGS["total_timeout"].default
    allow_reuse_address = True
    log_messages: bool = False
    unix_mode: int | None = None
    unix_owner: tuple[int, int] | None = None
    takeover: str | os.PathLike[str] | None = None
    # Called, if there is a takeover, once the listeners are this server's alone and it
    # offers them in turn.
    settled: Callable[[], object] | None = None
    tls: ssl.SSLContext | None = None
    tls_cert: str | os.PathLike[str] | None = None
    tls_key: str | os.PathLike[str] | None = None
    tls_ca: str | os.PathLike[str] | None = None
    tls_require_client_cert: bool = False

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: HandlerSpec,
        bind_and_activate: bool = True,
        *,
        framing: FramingSpec | None = None,
        registry: Registry | None = None,
        log_messages: bool | None = None,
        unix_mode: int | None = None,
        unix_owner: tuple[int, int] | None = None,
        takeover: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_require_client_cert: bool | None = None,
        **settings: Any,
    ) -> None:
        is_all_ours(self)
        also = ("framing", "registry", "takeover", *ServerTls._fields)
        for name, value in check_settings(settings, also, self).items():
            setattr(self, name, value)
        for name, value in (
            ("log_messages", log_messages),
            ("unix_mode", unix_mode),
            ("unix_owner", unix_owner),
            ("takeover", takeover),
            *zip(
                ServerTls._fields,
                (tls, tls_cert, tls_key, tls_ca, tls_require_client_cert),
                strict=True,
            ),
        ):
            if value is not None:
                setattr(self, name, value)
        read_settings(self)
        places = server_address if isinstance(server_address, list) else [server_address]
        self._places = [Address.parse(place) for place in places]
        if not self._places:
            raise SettingError("a server needs at least one address")
        self.listeners: list[Listener] = []
        # The same, for each of the places: several, if their workers had their own.
        self._groups: list[list[Listener]] = []
        self._refuse_unused_hooks()
        handler = self._understand(RequestHandlerClass, registry, framing)
        self._context = self._read_certificates()
        # Not TCPServer's: sockets are made by the transports.
        socketserver.BaseServer.__init__(self, server_address, handler)
        # Before anything is bound: it needs descriptors, and a child that is forked
        # from now on can find its parent by them.
        _ = self._life
        if bind_and_activate:
            try:
                self.server_bind()
                self.server_activate()
            except BaseException:
                self.server_close()
                raise

    def _refuse_unused_hooks(self) -> None:
        for name in self.unused_hooks:
            if getattr(type(self), name, None) is not getattr(Server, name, None):
                raise SettingError(
                    f"{type(self).__name__} has a {name}() of its own, and the model "
                    f"{self.model!r} never calls it, since no conversation has a thread there; "
                    "choose another model, or extend process_request() or shutdown_request()"
                )

    def _understand(
        self, spec: HandlerSpec, own: Registry | None, framing: FramingSpec | None
    ) -> Any:
        names = registry if own is None else own
        found = names.resolve(spec)
        if is_handler_class(found):
            self.protocol = None
            if isinstance(found, type) and _takes_nothing(found):
                raise SettingError(
                    f"{found.__name__} is neither an echoframe.Handler nor a "
                    "socketserver.BaseRequestHandler; make it a subclass of one of them"
                )
            if not self.runs_handler_classes:
                name = getattr(found, "__name__", type(found).__name__)
                raise SettingError(
                    f"{name} reads its socket itself and would hold up everybody on the model "
                    f"{self._model_in_words()}; choose another model, or write an echoframe.Handler"
                )
            if framing is not None:
                raise SettingError(
                    "a framing finds messages for a handler of messages; a socketserver handler "
                    "class reads its socket itself"
                )
            return found
        self.protocol = protocol = names.find(found)
        if not self.runs_async_handlers and awaits(protocol):
            raise SettingError(
                f"the handler {protocol.name!r} is asynchronous, and the model "
                f"{self._model_in_words()} waits for nothing asynchronous; choose the "
                "model 'aio', or write it as a plain function"
            )
        if framing is not None and all(place.scheme == "udp" for place in self._places):
            raise SettingError("a datagram is a message: a framing has no meaning for udp")
        self._new_framing: Callable[[], Framing] = make_framing(
            framing or protocol.framing, self.max_message
        )
        self._open_handler = protocol.opener()
        # Once now, so that a parameter that cannot work is found here.
        self._new_framing()
        return protocol.handler

    # ------------------------------------------------------------- addresses

    def _model_in_words(self) -> str:
        """Name, in a refusal, the model that cannot run the handler."""
        return repr(self.model)

    @property
    def address(self) -> Address:
        """Where the first listener really is."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[Address]:
        """Where all listeners really are: with port 0, the port that was chosen."""
        # Of a predecessor whose workers had a listener each there may be several.
        return list(dict.fromkeys(listener.address for listener in self.listeners)) or self._places

    def server_bind(self) -> None:
        """Bind every listener, or take it over. May be extended; call super()."""
        options = self._listen_options()
        if self.takeover is not None:
            self._handover = Handover(self.takeover, self.unix_owner)
        for place in self._places:
            offered = self._handover.take(place, options) if self._handover is not None else []
            self._groups.append(offered or [bind(place, options)])
            self.listeners += self._groups[-1]
        first = self.listeners[0]
        self.socket = first.socket
        self.address_family = first.socket.family
        self.socket_type = first.socket.type
        self.server_address = first.socket.getsockname()

    def server_activate(self) -> None:
        """Start to take connections. May be extended; call super()."""
        options = self._listen_options()
        for listener in self.listeners:
            try:
                listener.transport.listen(listener.socket, options)
            except OSError as error:
                # Two programs may have bound the same port before either listened.
                raise listen_error(listener.address, error, listener.socket.getsockname()) from None
        for place in self.addresses:
            logger.info("Listening on %s", place.name if place.scheme == "tcp" else place)
        granted = somaxconn()
        if granted is not None and granted < options.backlog:
            logger.info(
                "the kernel keeps %d connections waiting, not the %d of backlog "
                "(net.core.somaxconn)",
                granted,
                options.backlog,
            )

    def _listen_options(self) -> ListenOptions:
        # A subclass may have set it by the stdlib's name, which is a property here.
        named: Any = type(self).request_queue_size
        backlog = named if isinstance(named, int) else self.backlog
        return ListenOptions(
            backlog,
            bool(self.allow_reuse_address),
            self.unix_mode,
            self.unix_owner,
            self._context,
        )

    def _read_certificates(self) -> ssl.SSLContext | None:
        told = ServerTls(*(getattr(self, name) for name in ServerTls._fields))
        if any(place.scheme == "tls" for place in self._places):
            return server_context(told, takes_any_end=self.protocol is None)
        if told.given:
            raise SettingError(
                f"{told.given[0]} is for addresses that begin with tls://, and none does"
            )
        return None

    def _taken(self) -> tuple[int, ...]:
        # Without certificates a SIGHUP is what it is to every program.
        more = {signal.SIGHUP} if self._context is not None else set()
        if self.only_while_serving and signal.getsignal(NUDGE) in (signal.SIG_DFL, signal.SIG_IGN):
            # Not from a program that has a use for it.
            more.add(NUDGE)
        return tuple(more.union(super()._taken()))

    def reload(self) -> bool:
        """Read the certificates anew, for the connections that come from now on.

        SIGHUP does the same under run().

        What is open keeps what it has. If a file cannot be used, one line of the log
        says so, nothing changes, and the answer is False.

        Threads: may be called from any.
        """
        try:
            self._context = self._read_certificates()
        except SettingError as error:
            logger.error("everything stays as it was: %s", explained(error))
            return False
        for listener in self.listeners:
            if listener.tls is not None:
                listener.tls = self._context
                logger.info("Certificates of %s were read anew", listener.address)
        return True

    @property
    def request_queue_size(self) -> int:
        """The stdlib's name for backlog."""
        return self.backlog

    @request_queue_size.setter
    def request_queue_size(self, value: int) -> None:
        self.backlog = value

    def _ready_listener(self) -> None:
        # Made here, and ready.
        pass

    def _overheard(self) -> dict[int, Callable[[], object]]:
        if not self.only_while_serving:
            return {}
        # The thread that polls is the one that talks. A signal that comes just before a
        # handler waits for something wakes it from nothing, and that of the signal does not run.
        return {self._life.wake.fileno(): self._hear_of_signals}

    def _hear_of_signals(self) -> None:
        life = self._life
        said = life.wake.clear()
        self._hear(said)
        come = sum(number in OURS for number in said)
        life.heard += come
        # Python makes one of two that are the same, and children write here too: then it is a
        # nudge too many.
        if not (life.runs and come and life.heard > life.handled):
            return
        if self._takes_nudges():
            # Before it: whoever takes that forgets this.
            life.missed = life.missed or time.monotonic() - OVERHEARS
            self._nudge()
        else:
            # What the first of them means, at least.
            self.stop()

    def _adopt(self) -> None:
        super()._adopt()
        for listener in self.listeners:
            # What was made there is removed here.
            listener.owner = os.getpid()
            listener.encrypts = not self.encrypted_by_others

    # ---------------------------------------------------------------- handover

    _handover: Handover | None = None
    # Where it is heard.
    _handover_watch: Watch | None = None

    def _accept_loop(
        self,
        poll_interval: float | None = None,
        once: bool = False,
        deadline: float | None = None,
    ) -> bool:
        if not once:
            self._serves()
        return super()._accept_loop(poll_interval, once, deadline)

    def _serves(self) -> None:
        handover = self._handover
        if handover is None or self._handover_watch is not None:
            return
        self._handover_watch = self._life.watch
        self._handover_watch.add(handover.fileno(), handover.attend)
        handover.begin(
            list(zip(self._places, self._groups, strict=True)),
            self.stop,
            lambda: None if self.settled is None else self.settled(),
            self._rest_handover,
        )

    def _rest_handover(self, until: float) -> None:
        # Without descriptors there is nobody to accept either, and after that rest
        # it is called again.
        life = self._life
        life.rest_until = max(life.rest_until, until)
        self._wake()

    def _listen_to(self, listeners: list[Any]) -> None:
        super()._listen_to(listeners)
        if self._handover is not None and self._handover.rests:
            self._handover.attend()

    @property
    def overtaken(self) -> bool:
        """It has ended because another program took the same listeners over first."""
        return self._handover is not None and self._handover.overtaken

    @property
    def handed_over(self) -> bool:
        """Another program has its listeners, or will have them in a moment."""
        return self._handover is not None and self._handover.handed_over

    def _see_them_out(self) -> None:
        self._end_handover()
        super()._see_them_out()

    def _end_handover(self) -> None:
        handover, watch = self._handover, self._handover_watch
        if handover is None:
            return
        if self._life.pid != os.getpid():
            self._leave_handover()
            return
        if watch is not None:
            self._handover_watch = None
            watch.remove(handover.fileno())
        handover.close()

    def _leave_handover(self) -> None:
        """Let go of it in a forked process."""
        if self._handover is not None:
            self._handover.leave()
            self._handover = self._handover_watch = None

    def _finish(self, began: float) -> Report:
        report = super()._finish(began)
        if self._handover is not None:
            # Not before the keeper has ended, who may have listened to it.
            self._handover.release()
        return report

    # --------------------------------------------------------------- listeners

    def _listeners(self) -> list[Any]:
        return self.listeners

    def _stop_listening(self) -> None:
        # First, since it knows whether socket files are somebody else's by now.
        self._end_handover()
        for listener in self.listeners:
            if not listener.transport.datagrams:
                listener.close()

    def _close_listeners(self) -> None:
        self._end_handover()
        # If something went wrong while they were bound, not all are among the listeners.
        for listener in chain(self.listeners, *self._groups):
            listener.close()

    def _is_another(self, listener: Any) -> bool:
        # Ours do not wait.
        return True

    def _batch(self) -> int:
        replaced = type(self).get_request is not Server.get_request
        return super()._batch() if replaced else self.batch

    def _close_in_child(self, connection: Connection) -> None:
        self._leave_to_parent()
        self._leave_handover()
        for sock in self._only_parents:
            os.close(_detach(sock))
        life = self._life
        for other in chain(life.taken, life.begun):
            # Theirs is another child; an end kept open here would keep them open.
            if not isinstance(other.request, tuple):
                os.close(_detach(other.request))

    @lazy
    def _only_parents(self) -> list[socket.socket]:
        # By a datagram socket the reply leaves, so it stays.
        return [listener.socket for listener in self.listeners if not listener.transport.datagrams]

    # ----------------------------------------------------- one conversation

    def get_request(self) -> tuple[Any, Any]:
        """Take what arrived at the listener that is ready. May be replaced."""
        listener: Listener = self._life.ready or self.listeners[0]
        return listener.accept()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Hold the whole conversation. May be extended; call super().

        Errors: what the handler raised; process_request passes it to handle_error.
        """
        connection = self._life.open.get(id(request))
        if connection is not None:
            connection.thread = threading.get_ident()
        try:
            self._converse(request, client_address, connection)
        finally:
            if connection is not None:
                connection.thread = None

    def _converse(self, request: Any, client_address: Any, connection: Connection | None) -> None:
        protocol = self.protocol
        if protocol is None:
            if connection is not None:
                connection.talked = True
            if hasattr(request, "suppress_ragged_eofs"):
                # It cannot know of TLS, so it is told of an end however that came.
                request.suppress_ragged_eofs = True
            # A conversation of messages does it itself.
            if not hasattr(request, "do_handshake") or self._shake(request, connection):
                self._let_loose(request, client_address)
            return
        if isinstance(request, tuple):
            message, sock = request
            if self._fits(message):
                handler = self._open_handler(self._peer(connection))
                answer_datagram(handler, message, sock, client_address, self._trace())
            return
        conversation = self._conversation(request, connection)
        if connection is not None:
            connection.conversation = conversation
        conversation.door = self._life.door.shut
        conversation.run()

    def _let_loose(self, request: Any, client_address: Any) -> None:
        try:
            super().finish_request(request, client_address)
        except BlockingIOError:
            if not self.write_timeout or request.gettimeout() is not None:
                raise
            # The kernel's word for it, on a Unix socket, says nothing to anybody.
            raise TimeoutError(
                f"the peer took nothing of what was sent for {self.write_timeout:g} s "
                "(write_timeout)"
            ) from None

    def _conversation(self, request: Any, connection: Connection | None) -> Conversation:
        """Make the conversation of a message handler."""
        cells, row = self._cells_of(connection)
        # Encryption may want to read in order to write, which is not straight; nor is it
        # if each message is to be logged.
        if self._is_straight and request.__class__ is socket.socket and not self.log_messages:
            peer = self._peer(connection)
            straight = StraightConversation(
                request,
                self._open_handler(peer),
                self._make_session,
                cells,
                row,
                self.linger_timeout,
                self.write_timeout,
            )
            straight.peer = peer
            return straight
        session = self._new_session(Session, connection)
        conversation = Conversation(
            request,
            session,
            cells,
            row,
            self.linger_timeout,
            self.handshake_timeout,
            self.write_timeout,
        )
        conversation.peer = self._peer(connection)
        return conversation

    @lazy
    def _is_straight(self) -> bool:
        # Decided once, and not for each connection: nothing finds messages.
        return self.protocol is not None and takes_chunks(self._new_framing())

    @lazy
    def _make_session(self) -> Callable[[Handler, Callable[[bytes], Answer]], Session]:
        return lambda handler, on_message: Session(
            handler, self._new_framing(), write_buffer=self.write_buffer, on_message=on_message
        )

    def _new_session(self, kind: type[Talked], connection: Connection | None) -> Talked:
        return kind(
            self._open_handler(self._peer(connection)),
            self._new_framing(),
            write_buffer=self.write_buffer,
            trace=self._trace(),
        )

    def _peer(self, connection: Connection | None) -> Peer | None:
        return None if connection is None else ConnectedPeer(self, connection)

    def _trace(self) -> Callable[[bytes], None] | None:
        return log_received if self.log_messages else None

    def _fits(self, datagram: bytes) -> bool:
        if len(datagram) <= self.max_message:
            return True
        logger.info(
            "dropped a datagram of %d bytes: longer than %d (max_message)",
            len(datagram),
            self.max_message,
        )
        return False

    def shutdown_request(self, request: Any) -> None:
        """End a connection. May be extended; call super().

        A conversation of messages has said goodbye already. For a handler class
        it is done here, and without losing what it wrote.
        """
        if self.protocol is None and not isinstance(request, tuple):
            connection = self._life.open.get(id(request))
            # Whoever was turned away before anything was said is not waited for.
            talked = connection is None or connection.talked
            if talked and not self._say_goodbye(request, connection):
                return
        self.close_request(request)

    def _say_goodbye(self, request: Any, connection: Connection | None) -> bool:
        """Say it; False is "somebody will, and closes the connection then"."""
        goodbye = self._goodbye(request, connection)
        if goodbye is not None:
            # The handler may have set one of its own.
            request.settimeout(None)
            goodbye.run()
        return True

    def _goodbye(self, request: Any, connection: Connection | None) -> Goodbye | None:
        if not isinstance(request, socket.socket) or request.fileno() < 0:
            # The handler has closed it, or it is something of the program's own.
            return None
        cells, row = self._cells_of(connection)
        return Goodbye(request, cells, row, self.linger_timeout)

    @lazy
    def _ends_plainly(self) -> bool:
        # Decided once, and not for each connection: behind a conversation of messages
        # there is nothing to do but to let go of the socket.
        kind = type(self)
        extended = (kind.shutdown_request, kind.close_request) != (
            Server.shutdown_request,
            Server.close_request,
        )
        replaced = not {"shutdown_request", "close_request"}.isdisjoint(vars(self))
        return self.protocol is not None and not (extended or replaced)

    def close_request(self, request: Any) -> None:
        """Release a connection's socket. May be extended; call super()."""
        self._let_go(request)
        if not isinstance(request, tuple):
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handler raised: one traceback in the log. May be replaced.

        One line, where that is how a handler class hears that its peer has gone: that takes
        no fault of the handler's, and any peer can do it as often as it likes.
        """
        connection = self._life.open.get(id(request))
        name = visible(str(client_address)) if connection is None else self._name(connection)
        error = sys.exception()
        # A handler of messages has nothing to do with the socket. As an error of its own,
        # where that is encrypted.
        heard = self.protocol is None and (
            isinstance(error, ConnectionError | TimeoutError) or is_of_tls(error)
        )
        if heard and has_gone(request):
            logger.info("%s has gone: %s: %s", name, type(error).__name__, error)
            return
        logger.exception("the handler raised; the connection from %s is closed", name)

    def _peer_name(self, connection: Connection) -> str:
        listener: Listener = connection.listener or self.listeners[0]
        match connection.client_address, listener.transport.scheme:
            case ((str(), int(), *_), _) | ("" | b"", "unix"):
                return listener.transport.peer_name(connection.request, connection.client_address)
            case _:
                # A client's end with a name of its own choice; or get_request() was
                # replaced, and what it gives is the program's own.
                return visible(str(connection.client_address))


class ConnectedPeer(Peer):
    """The peer of a connection. Names are made when somebody asks: most handlers never do."""

    _facts: TlsFacts | None = None

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    @property
    def tls(self) -> TlsFacts | None:
        # Kept: when the conversation is over the socket does not know any more.
        if self._facts is None:
            connection = self._connection
            self._facts = facts_of(connection.encryption or connection.request)
        return self._facts

    @property
    def transport(self) -> str:  # type: ignore[override]  # found when asked for
        listener: Listener = self._connection.listener or self._server.listeners[0]
        return listener.transport.scheme

    @property
    def remote(self) -> str:  # type: ignore[override]  # found when asked for
        return self._server._name(self._connection)

    @property
    def local(self) -> str:  # type: ignore[override]  # found when asked for
        request = self._connection.request
        sock: socket.socket = request[1] if isinstance(request, tuple) else request
        return Address.of(sock.getsockname(), sock.family, sock.type).name


def is_handler_class(found: Any) -> bool:
    """Tell whether socketserver would make one of these for each request.

    A class that is no Handler is one, and so is what makes such a class's objects:
    a partial of it, or a function that needs three arguments.
    """
    while isinstance(found, functools.partial):
        found = found.func
    if isinstance(found, type):
        return not issubclass(found, Handler)
    code = getattr(found, "__code__", None)
    if code is None:
        return False
    return bool(code.co_argcount - len(found.__defaults__ or ()) == 3)


def awaits(protocol: Protocol) -> bool:
    """Tell whether a handler of messages answers, or greets, asynchronously."""
    made = protocol.handler
    while isinstance(made, functools.partial) and isinstance(made.func, functools.partial | type):
        made = made.func
    return any(runs_async(getattr(made, name, made)) for name in _ASKED)


def _takes_nothing(kind: type) -> bool:
    return not any(name in vars(base) for base in kind.__mro__[:-1] for name in _MAKERS)


_MAKERS = ("__init__", "__new__")
_ASKED = ("on_open", "on_message")


def printable(data: bytes) -> str:
    """What a peer said, as text with nothing in it that a terminal would obey."""
    return visible(data.decode(errors="backslashreplace"))


def log_received(message: bytes) -> None:
    """Log a message."""
    logger.info("Received: %s", printable(message))
