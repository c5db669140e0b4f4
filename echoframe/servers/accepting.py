"""Accepting: from a listener that is ready to a conversation that begins, and back.

The stdlib's moments in the stdlib's order. What is ours is the row: a connection
takes a permit and a row when it is accepted and gives both back once, in the frame
that ran its conversation, whatever happens there.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ..printing import visible
from .kernel import limit_writing
from .lazy import lazy
from .life import Connection, Keeper
from .rows import WANTED
from .settings import read_settings
from .strays import Stray
from .tending import LOOK, Tending
from .turnstile import Turnstile, barred, peer_key

__all__ = ["Accepting"]

logger = logging.getLogger("echoframe.server")

_close = socket.SocketType.close

# Out of descriptors, memory or processes: so long until the next try.
REST = 0.1
# How often those are looked for whom a program has taken away.
SOMETIMES = 1.0

# What accept() says when this machine, or this listener, is at its end. Anything
# else is about the one connection.
_STARVED = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOTSOCK,
}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


class Accepting(Tending):
    """The accept loop, and what happens to one connection around its conversation."""

    # A thread of our own watches the deadlines, started with the first connection.
    # A model that must not have one does it in its accept loop.
    keeps_time: ClassVar[bool] = True

    # The log tells of each connection. Not on a server of others, whose program may send
    # its log to that very server: whoever sends a line holds the log's lock until it is
    # answered, and each line would be one more connection.
    logs_connections: ClassVar[bool] = False

    def _adopt(self) -> None:
        """This process serves, although another one may have made the server (a daemon's)."""
        read_settings(self)
        life = self._life
        if life.pid != os.getpid():
            life.pid = os.getpid()
            # The other one has the same pipe, and may read from it.
            life.watch.close()
            life.new_watch()

    def _listeners(self) -> list[Any]:
        return [self]

    def _stop_listening(self) -> None:
        # A datagram socket is also the way out for what is still being answered.
        if getattr(self, "socket_type", None) != socket.SOCK_DGRAM:
            self._close_listeners()

    def _close_listeners(self) -> None:
        super().server_close()

    def _close_in_child(self, connection: Connection) -> None:
        """Let go of what only the accepting process needs."""
        self._leave_to_parent()
        if not isinstance(connection.request, tuple):
            self.socket.close()

    def _leave_to_parent(self) -> None:
        if "_turnstile" in vars(self):
            self._turnstile.leave_to_parent()

    @lazy
    def _turnstile(self) -> Turnstile:
        return Turnstile(logger.warning)

    def _accept_loop(
        self,
        poll_interval: float | None = None,
        once: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """Serve until stop is requested, or once, or until the deadline; True if it was once."""
        life = self._life
        life.batch = 1 if once else self._batch()
        before = life.arrivals
        while not life.stop_requested:
            if self.overload != "wait":
                # Each time: it may have been spent, and somebody else have taken the number.
                self._turnstile.keep_reserve()
            pause = _sooner(self._between(), poll_interval)
            if "_turnstile" in vars(self):
                pause = _sooner(pause, self._turnstile.between(life.watch))
            if life.strays:
                pause = _sooner(pause, self._look_for_strays())
            resting = 0.0
            if life.rest_until or deadline is not None:
                now = time.monotonic()
                resting = max(life.rest_until - now, 0.0)
                life.rest_until = life.rest_until if resting else 0.0
                pause = _sooner(pause, resting or None)
                if deadline is not None and self._waits_for_one():
                    if now >= deadline:
                        return False
                    pause = _sooner(pause, deadline - now)
            # In the kernel's backlog a connection waits at nobody's cost, so there
            # it stays while there is no room for it.
            life.rows.wanted = not life.rows.free or not self._waits_for_one()
            free = self._has_room() or self._turns_away()
            # Asked anew each time, because a program may replace its socket.
            self._listen_to(self._listeners() if free and not resting else [])
            life.watch.wait(pause)
            if once and self._was_once(before):
                return True
            if poll_interval is not None:
                self.service_actions()
        return False

    def _has_room(self) -> bool:
        """There is a place for one more connection. May be extended."""
        return bool(self._life.rows.free)

    def _is_full(self) -> bool:
        """No more may be open. May be extended."""
        return not self._life.rows.free

    def _turns_away(self) -> bool:
        # What is full, but not what only rests.
        return self.overload != "wait" and self._is_full()

    def _was_once(self, before: int) -> bool:
        """handle_request() has done its part. May be replaced."""
        return self._life.arrivals != before

    def _waits_for_one(self) -> bool:
        """Nobody has come yet for whom handle_request() would stay. May be replaced."""
        return True

    def _listen_to(self, listeners: list[Any]) -> None:
        life = self._life
        numbers = [listener.fileno() for listener in listeners]
        if numbers != life.listened:
            # Until all of it is done nothing is sure: Ctrl-C may come in between.
            before, life.listened = life.listened, [-1, *life.listened, *numbers]
            for number in before:
                life.watch.remove(number)
            for listener, number in zip(listeners, numbers, strict=True):
                life.watch.add(number, partial(self._arrive, listener))
            life.listened = numbers

    def _arrive(self, listener: Any) -> None:
        life = self._life
        if life.stop_requested:
            return
        life.ready = listener
        # No loop stands in a try: Python does not count its jump back as part of that, and
        # Ctrl-C that comes there would pass it by.
        try:
            self._let_in(listener)
        except BaseException:
            self._let_all_go()
            raise

    def _let_in(self, listener: Any) -> None:
        # All that are here first, then one after the other.
        life = self._life
        for count in range(life.batch):
            if count and not self._is_another(listener):
                break
            free = self._has_room()
            if not (free or self._turns_away()):
                break
            # For handle_request(): not where the workers have just become busy.
            life.arrivals += 1
            if not self._accept(free):
                break
        while life.taken:
            self._begin(life.taken.popleft())

    def _let_all_go(self) -> None:
        # What was accepted and will never begin, since something has ended the loop:
        # perhaps Ctrl-C, which may come between any two steps of it.
        self._life.taken.clear()
        for connection in self._life.open.copy().values():
            if not connection.away:
                self.shutdown_request(connection.request)
                self._release(connection)

    def _is_another(self, listener: Any) -> bool:
        """Tell whether get_request() may be called once more. May be replaced."""
        return True

    def _batch(self) -> int:
        """How many connections to accept before the first of their conversations begins."""
        # A get_request() that is not ours may wait for what it takes.
        return 1

    def _handle_request_noblock(self) -> None:
        if not self._has_room():
            # Whoever calls this by itself cannot look away from the listener.
            self._life.watch.wait(REST)
        elif self._accept() and self._life.taken:
            self._begin(self._life.taken.pop())

    # The stdlib's moments in the stdlib's order; what is ours is the row.

    def _accept(self, free: bool = True) -> bool:
        why = "" if free else "max_connections"
        try:
            request, client_address = self.get_request()
        except BlockingIOError:
            # Somebody else took it, or it went away.
            return False
        except OSError as error:
            if error.errno not in _STARVED:
                logger.debug("a connection was lost before it was accepted: %s", error)
                return False
            spare = self.overload != "wait" and error.errno in _NO_DESCRIPTORS
            if not (spare and self._turnstile.spend_reserve()):
                self._starve("accepting", error)
                return False
            why = "want of descriptors"
            try:
                request, client_address = self.get_request()
            except OSError:
                # Nobody was there: a number is wanted before anybody looks.
                self._turnstile.keep_reserve()
                return False
        if self.max_per_peer or self.allow or self.deny:
            why = self._bars(request, client_address) or why
        if why:
            self._turn_away(request, client_address, why)
        else:
            self._life.taken.append(self._take(request, client_address))
        return True

    def _bars(self, request: Any, client_address: Any) -> str:
        """Name the setting by which this peer may not come; empty is none."""
        key = peer_key(request, client_address)
        if self.allow or self.deny:
            try:
                why = barred(key, self.allow, self.deny)
            except Exception:
                # Set to something that it cannot be while the server serves.
                logger.exception("nobody may come: allow or deny cannot be understood")
                why = "allow"
            if why:
                return why
        most = self.max_per_peer
        return "max_per_peer" if most and self._turnstile.inside.get(key, 0) >= most else ""

    def _turn_away(self, request: Any, client_address: Any, why: str) -> None:
        life, turnstile = self._life, self._turnstile
        who = Connection(request, client_address, -1, life.ready)
        turnstile.note(why, lambda: self._name(who))
        how = self.overload if self.overload != "wait" else "refuse"
        unwanted = why in ("allow", "deny")
        if how != "drop" and (unwanted or getattr(life.ready, "tls", None) is not None):
            # Who may not come at all is told nothing, and over TLS nobody can be.
            how = "refuse"
        # Where the last descriptor was spent on this one, it is not waited for.
        waits = not unwanted and (self.overload == "wait" or turnstile.has_reserve)
        turnstile.turn_away(request, how, self.linger_timeout if waits else 0.0, life.watch)

    def _begin(self, connection: Connection) -> None:
        request, client_address = connection.request, connection.client_address
        self._life.beginning = connection
        self._life.begins_in = threading.get_ident()
        try:
            if self.verify_request(request, client_address):
                self.process_request(request, client_address)
            else:
                self.shutdown_request(request)
        except Exception:
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        except BaseException:
            if not connection.away:
                self.shutdown_request(request)
            raise
        finally:
            self._life.beginning = None
            if not (connection.away or self._went_astray(connection)):
                self._release(connection)

    def _went_astray(self, connection: Connection) -> bool:
        """Where process_request() is the program's own, it may converse elsewhere by now."""
        life, request = self._life, connection.request
        try:
            number = request.fileno()
            if number < 0 or life.pid != os.getpid():
                return False
            stray = Stray(number)
        except (OSError, AttributeError):
            # Closed meanwhile, or a datagram.
            return False
        with life.lock:
            if connection.away or life.open.pop(id(request), None) is not connection:
                # Another thread has brought it to ours.
                return connection.away
            connection.request, connection.away = stray, True
            life.open[id(stray)] = connection
            life.strays.append(connection)
        return True

    def _look_for_strays(self) -> float:
        """Release those that are over; in how many seconds to look again."""
        life = self._life
        now, short = time.monotonic(), life.draining or not life.rows.free
        if short or now >= life.strays_due:
            life.strays_due = now + SOMETIMES
            for connection in life.strays.copy():
                if connection.request.fileno() < 0:
                    life.strays.remove(connection)
                    self._release(connection)
        return LOOK if life.draining or not life.rows.free else life.strays_due - now

    def _take(self, request: Any, client_address: Any) -> Connection:
        life = self._life
        connection = Connection(request, client_address, life.rows.take(), life.ready)
        life.open[id(request)] = connection
        if self.max_per_peer:
            self._count_in(connection)
        if self.write_timeout and not self._parks_messages:
            # Who waits in send() is not looked at, nor who has something to read meanwhile.
            limit_writing(request, self.write_timeout, self._looks)
        if self.keeps_time:
            keeper = life.keeper
            if keeper is None:
                self._start_keeper()
            elif keeper.asleep and self._patience():
                keeper.wake.set()
        if self.logs_connections and logger.isEnabledFor(logging.INFO):
            self._name(connection)
            self._log_accepted(connection)
        return connection

    # Conversations of messages wait where somebody polls, and looks at those who send.
    _parks_messages = False

    @property
    def _looks(self) -> bool:
        """What becomes of a send() is looked at by us, not by a handler class."""
        return getattr(self, "protocol", None) is not None

    def _count_in(self, connection: Connection) -> None:
        connection.key = key = peer_key(connection.request, connection.client_address)
        if key is not None:
            inside = self._turnstile.inside
            # Others leave meanwhile, in threads of their own.
            with self._life.lock:
                inside[key] = inside.get(key, 0) + 1

    def _count_out(self, key: Any) -> None:
        inside = self._turnstile.inside
        inside[key] -= 1
        if not inside[key]:
            del inside[key]

    def _start_keeper(self) -> None:
        keeper = None
        try:
            keeper = Keeper(self._keep, self._spare, self._overheard())
            keeper.start()
        except (OSError, RuntimeError) as error:
            # No descriptor, no thread: the next connection tries again.
            if keeper is not None:
                keeper.wake.close()
            self._starve("watching deadlines", error)
        else:
            self._life.keeper = keeper

    def _spare(self, keeper: Keeper | None) -> bool:
        """Tell whether nobody needs a keeper; then the one that asks is let go."""
        life = self._life
        if life.open or life.serving is not None:
            return False
        if keeper is not None:
            # In this order: whoever is accepted meanwhile is seen here, or finds none and
            # starts another.
            life.keeper = None if life.keeper is keeper else life.keeper
            if life.open and life.keeper is None:
                life.keeper = keeper
                return False
        return True

    def _rest(self) -> None:
        """Nobody serves any more. What was kept for that ends, unless somebody soon does."""
        keeper = self._life.keeper
        if keeper is not None:
            keeper.wake.set()

    def _overheard(self) -> dict[int, Callable[[], object]]:
        """What the keeper listens to besides, and whom it tells. May be replaced."""
        return {}

    def _keep(self) -> float | None:
        """What the keeper's thread does; in how many seconds to do it again."""
        return self._tend()

    def _connection_of(self, request: Any, client_address: Any) -> Connection:
        """The connection of a request that process_request() was given."""
        life = self._life
        beginning = life.beginning
        here = life.begins_in == threading.get_ident()
        if beginning is not None and beginning.request is request and here:
            return beginning
        with life.lock:
            connection = life.open.get(id(request))
            if connection is None:
                connection = beginning if here else self._stray_of(request)
                if connection is not None:
                    # A program that has wrapped its request, or held it for a while.
                    del life.open[id(connection.request)]
                    connection.request = request
                    life.open[id(request)] = connection
            if connection is not None:
                # The thread that accepted it is not to release it.
                connection.away = connection.away or not here
                return connection
        # A program that accepts by itself.
        return self._take(request, client_address)

    def _stray_of(self, request: Any) -> Connection | None:
        for connection in self._life.strays:
            if connection.request.fileno() == request.fileno() >= 0:
                self._life.strays.remove(connection)
                return connection
        return None

    def _release(self, connection: Connection) -> None:
        """Give the row and the permit back; called once, by the frame that ran it."""
        life = self._life
        with life.lock:
            if life.open.get(id(connection.request)) is not connection:
                return
            self._give_back(connection)
        self._released()

    def _end(self, connection: Connection) -> None:
        """close_request() and _release() in one, where _ends_plainly says so."""
        life, request = self._life, connection.request
        with life.lock:
            # Nobody finds it any more, and so nobody will shut it.
            connection.closing = True
            self._give_back(connection)
        if request.__class__ is socket.socket:
            # The C method. What Python adds is for files that were made of a socket.
            _close(request)
        else:
            request.close()
        self._released()

    def _give_back(self, connection: Connection) -> None:
        life = self._life
        del life.open[id(connection.request)]
        life.rows.give_back(connection.row)
        life.served += 1
        if connection.alarm is not None:
            # It lies there until its time, but leads nowhere.
            connection.alarm.connection = None
            connection.alarm = None
        if connection.key is not None:
            self._count_out(connection.key)
        # Its handler knows its peer, and that leads back here: a cycle for each connection.
        connection.conversation = None

    # Nothing is to be done between the end of a conversation and that of its socket.
    _ends_plainly = False

    def _released(self) -> None:
        """A conversation is over, and its row is back. May be extended."""
        life = self._life
        if life.rows.cells[WANTED] or (life.draining and not life.open):
            life.wake.set()
        if life.serving is None and life.keeper is not None and not life.open:
            life.keeper.wake.set()
        if self.logs_connections and logger.isEnabledFor(logging.INFO):
            self._log_closed()

    def _starve(self, doing: str, error: BaseException) -> None:
        """The machine is at its end: say so at most once a second, rest, go on."""
        life = self._life
        now = time.monotonic()
        life.rest_until = now + REST
        if now - life.complained >= 1.0:
            life.complained = now
            logger.warning(
                "resting before %s: %s (%d connections are open)", doing, error, len(life.open)
            )

    def close_request(self, request: Any) -> None:
        """Release the connection's socket. May be extended; call super()."""
        self._let_go(request)
        super().close_request(request)

    def _let_go(self, request: Any) -> None:
        life = self._life
        with life.lock:
            connection = life.open.get(id(request))
            if connection is not None:
                connection.closing = True

    # -------------------------------------------------------- what a log says

    def _name(self, connection: Connection) -> str:
        if not connection.name:
            connection.name = self._peer_name(connection)
        return connection.name

    def _peer_name(self, connection: Connection) -> str:
        match connection.client_address:
            case (str(host), int(port), *_):
                return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            case other:
                return visible(str(other))

    def _log_accepted(self, connection: Connection) -> None:
        logger.info("Accepted connection from %s", connection.name)

    def _log_closed(self) -> None:
        logger.info("Connection to client closed")

    # --------------------------------------------------------- between the looks

    def _between(self) -> float | None:
        """Between two looks at the listeners; may be extended.

        Gives the seconds until it wants to be called again, None for "whenever".
        """
        return None


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or (other is not None and other < one):
        return other
    return one
