"""Handing the listeners of a running program over to its successor, with nobody refused.

    new ─► old    connects to the Unix socket at PATH
    old ─► new    a line of JSON, with the listening sockets themselves (SCM_RIGHTS)
    new ─► old    a line of JSON: it serves, and this is what it has taken
    old ─► new    "yours": from here on the old one drains; or "gone": somebody was faster

The sockets are the same in both programs, and so is what waits in their backlogs. Until
the second line has come, nothing has changed for the old one. An end without the last
word means that the old one has gone by itself: then they are the new one's too.

The first line is {"echoframe": 1, "pid": …, "listeners": [{"asked": "tcp://127.0.0.1:0",
"address": "tcp://127.0.0.1:35001", "sockets": 1, "mark": null}, …]}, the second
{"echoframe": 1, "ready": [0, …]}, by their places in the list. `mark` is the device and
inode of a socket file that goes with the listener, for who has it last to remove.

How the accept loop comes here is base.py's.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..address import UNIX_PATH_MAX, Address
from ..errors import ListenError, SettingError
from ..transports import Listener, ListenOptions, take
from ..transports.base import remaining
from .kernel import credentials

__all__ = ["Handover", "check_path"]

logger = logging.getLogger("echoframe.server")

VERSION = 1
# So long (seconds) a successor waits for the offer. A server whose only thread is with a
# handler that computes answers late.
PATIENCE = 10.0
# Whoever closed without a word may have been ending: so soon (seconds) it is asked again.
AGAIN = 0.02
# No line is longer.
LONGEST = 1 << 16
# The kernel passes on no more than 253 descriptors at once.
AT_ONCE = 250
# So many may be between the offer and the second line; the first of more is sent away.
SUCCESSORS = 8
# Out of descriptors: so long (seconds) until whoever knocks is heard again, and how often
# the log says so.
REST = 0.1
OFTEN = 1.0

YOURS, GONE = b"yours\n", b"gone\n"

# Whom the kernel does not name, although it could.
NOBODY = -1


class Offered(NamedTuple):
    """What a predecessor offers for one of its addresses."""

    asked: str
    address: str
    mark: tuple[int, int] | None
    # Several, where each of its workers had its own.
    numbers: list[int]

    def fits(self, place: Address) -> bool:
        if place.scheme == "fd":
            # That one this process has from somebody else.
            return False
        if place.scheme == "unix" and self.mark is not None:
            # The same text means another file in another folder; and nobody reaches a
            # socket whose file is gone.
            return self.asked == str(place) and _mark(place.path) == self.mark
        # Encrypted or not, the socket is the same.
        return self.asked == str(place) or _plain(self.address) == _plain(str(place))


class Handover:
    """A server's place at PATH: first as a successor, if somebody offers there, then to offer.

    Threads: attend() may be called from several; none of them ever waits here.
    """

    # It ended as a successor because somebody else was faster.
    overtaken = False
    # What was its own is another program's by now, or will be in a moment.
    handed_over = False

    def __init__(self, path: str | os.PathLike[str], owner: tuple[int, int] | None = None) -> None:
        """Get what is offered at the path. `owner` (user and group) is whose socket is there.

        Errors: SettingError for what cannot be a path of a Unix socket; ListenError where
        nothing can be offered, or whoever is there offers nothing to us.
        """
        self.path = check_path(path)
        self._owner = owner
        # Whose files are removed at the end, in the process that offers them.
        self.pid = os.getpid()
        self._beside = self.path + _suffix()
        self._mark: tuple[int, int] | None = None
        self._stop: Callable[[], object]
        self._settled: Callable[[], object]
        self._rest: Callable[[float], object]
        self._listeners: Sequence[tuple[Address, list[Listener]]] = ()
        self._taken: dict[int, list[Listener]] = {}
        self._options = ListenOptions()
        # What they have said so far.
        self._successors: dict[socket.socket, bytes] = {}
        self._heard: set[socket.socket] = set()
        self._lock = threading.Lock()
        # Until when nobody who knocks is heard; 0 is "they are".
        self._rests_until = 0.0
        self._complained = -OFTEN
        self.predecessor, self._pid, self._offered = _ask(self.path)
        self._selector = selectors.DefaultSelector()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._bind()
        except BaseException:
            self.close()
            self.release()
            raise

    def _bind(self) -> None:
        # Under a name of its own: whoever offers at the path goes on with that.
        try:
            self._socket.bind(self._beside)
            # In time: nobody gets in before listen().
            os.chmod(self._beside, 0o600)
            if self._owner is not None:
                os.chown(self._beside, *self._owner)
        except OSError as error:
            raise _no_offer(self.path, error) from None
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that is readable when attend() should be called."""
        return self._selector.fileno()

    # ----------------------------------------------------------- the successor

    def take(self, place: Address, options: ListenOptions) -> list[Listener]:
        """Give the listeners that were offered for an address; an empty list is "none"."""
        self._options = options
        for number, offered in enumerate(self._offered):
            if number not in self._taken and offered.fits(place):
                taken = self._taken[number] = []
                try:
                    while offered.numbers:
                        taken.append(take(place, offered.numbers.pop(), options))
                except BaseException:
                    for listener in taken:
                        listener.close()
                    raise
                return taken
        return []

    def begin(
        self,
        listeners: Sequence[tuple[Address, list[Listener]]],
        stop: Callable[[], object],
        settled: Callable[[], object],
        rest: Callable[[float], object],
    ) -> None:
        """The server serves: say so to the predecessor, and offer when that has gone.

        `listeners` are the server's, with what was asked for; `settled` is called once
        they are its own, and offered; `stop` when they are somebody else's; `rest` with a
        moment at which attend() must be called, whoever has said something.
        """
        self.pid = os.getpid()
        self._listeners, self._stop, self._settled = listeners, stop, settled
        self._rest = rest
        self._let_go()
        if self.predecessor is None:
            self._settle()
            return
        self.predecessor.setblocking(False)
        self._hear(self.predecessor, self._hear_predecessor)
        # If it has gone, that is what will be heard.
        with contextlib.suppress(OSError):
            self.predecessor.sendall(_line({"ready": list(self._taken)}))

    def _hear_predecessor(self, predecessor: socket.socket) -> None:
        try:
            said = predecessor.recv(len(YOURS))
        except BlockingIOError:
            return
        except OSError:
            said = b""
        self._hear_no_more(predecessor)
        predecessor.close()
        self.predecessor = None
        if said != GONE:
            logger.info("Took over from process %d", self._pid)
            self._settle()
            return
        self.overtaken = True
        logger.error(
            "%s: another program was faster to take over from process %d; ending",
            self.path,
            self._pid,
        )
        self._stop()

    def _settle(self) -> None:
        for number, listeners in self._taken.items():
            for listener in listeners:
                listener.mark = self._offered[number].mark
                if listener.mark is None:
                    continue
                try:
                    listener.transport.permit(listener.address, self._options)
                except OSError as error:
                    logger.warning(
                        "%s keeps its owner and mode: %s", listener.address, error.strerror
                    )
        try:
            self._socket.listen()
            # At one stroke: at every moment somebody offers here.
            os.replace(self._beside, self.path)
            self._mark = _mark(self.path)
            self._hear(self._socket, self._welcome)
        except OSError as error:
            logger.warning("%s", _no_offer(self.path, error))
            with contextlib.suppress(OSError):
                os.unlink(self._beside)
        self._settled()

    # --------------------------------------------------------- the predecessor

    @property
    def rests(self) -> bool:
        """Nobody who knocks is heard, until attend() is called at the right moment."""
        return self._rests_until > 0

    def attend(self) -> None:
        """Deal with whoever has said something, and with a rest that is over."""
        if not self._lock.acquire(blocking=False):
            # Another thread is at it.
            return
        try:
            if self.rests and time.monotonic() >= self._rests_until:
                self._rests_until = 0.0
                self._hear(self._socket, self._welcome)
            for key, _ in self._selector.select(0):
                sock: Any = key.fileobj
                # One call may end what another one was for.
                if sock in self._heard:
                    key.data(sock)
        finally:
            self._lock.release()

    def _welcome(self, listening: socket.socket) -> None:
        try:
            successor, _ = listening.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._starve(error)
            return
        pid, user = _who(successor)
        if user not in (None, 0, os.geteuid()):
            logger.warning(
                "%s: process %d of user %d is not given the listeners", self.path, pid, user
            )
            successor.close()
            return
        while len(self._successors) >= SUCCESSORS:
            self._send_away(next(iter(self._successors)))
        try:
            successor.setblocking(False)
            self._offer(successor)
            self._hear(successor, self._hear_successor)
        except OSError as error:
            logger.warning("%s: nothing was handed over: %s", self.path, error.strerror or error)
            successor.close()
        else:
            self._successors[successor] = b""

    def _starve(self, error: OSError) -> None:
        now = time.monotonic()
        # Whoever it was is still there, and would be ready again at once.
        self._hear_no_more(self._socket)
        self._rests_until = now + REST
        if now - self._complained >= OFTEN:
            self._complained = now
            logger.warning("nobody can take over at %s now: %s", self.path, error.strerror)
        self._rest(self._rests_until)

    def _offer(self, successor: socket.socket) -> None:
        entries = [
            {
                "asked": str(place),
                "address": str(listeners[0].address),
                "sockets": len(listeners),
                "mark": listeners[0].mark,
            }
            for place, listeners in self._listeners
        ]
        numbers = [one.fileno() for _, listeners in self._listeners for one in listeners]
        said = _line({"pid": os.getpid(), "listeners": entries})
        for first in range(0, len(numbers), AT_ONCE):
            socket.send_fds(successor, [said], numbers[first : first + AT_ONCE])
            # More of them need at least one more byte.
            said = b"+"

    def _hear_successor(self, successor: socket.socket) -> None:
        try:
            said = successor.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        line = self._successors[successor] + said
        if said and b"\n" not in line and len(line) < LONGEST:
            self._successors[successor] = line
            return
        pid, _ = _who(successor)
        ready = _read(line).get("ready")
        if not isinstance(ready, list):
            what = "said what nobody understands" if said else "left before it was ready"
            logger.warning("Process %d was to take over, and %s; nothing changes", pid, what)
            self._send_away(successor)
            return
        logger.info("Process %d has taken over", pid)
        for number, (_, listeners) in enumerate(self._listeners):
            if number in ready:
                _leave_files(listeners)
        self.handed_over = True
        # Its own will be there in a moment.
        self._mark = None
        self._part(successor, YOURS)
        for other in list(self._successors):
            self._send_away(other)
        # Who knocks from now on is not heard here, but hears the end, and knocks again.
        self._rests_until = 0.0
        self._hear_no_more(self._socket)
        self._stop()

    def _send_away(self, successor: socket.socket) -> None:
        self._part(successor, GONE)

    def _part(self, successor: socket.socket, word: bytes) -> None:
        with contextlib.suppress(OSError):
            successor.send(word)
        del self._successors[successor]
        self._hear_no_more(successor)
        successor.close()

    def _hear(self, sock: socket.socket, call: Callable[[socket.socket], object]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, call)
        self._heard.add(sock)

    def _hear_no_more(self, sock: socket.socket) -> None:
        if sock in self._heard:
            self._heard.discard(sock)
            self._selector.unregister(sock)

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Offer no more. release() must follow. Harmless when called again."""
        with self._lock:
            self._rests_until = 0.0
            if self._successors:
                self.handed_over = True
                # They may be about to serve. A file that nobody needs is removed by
                # whoever listens there next.
                for _, listeners in self._listeners:
                    _leave_files(listeners)
            for sock in (self.predecessor, self._socket, *self._successors):
                if sock is not None:
                    self._hear_no_more(sock)
                    sock.close()
            self.predecessor = None
            self._successors.clear()
            self._let_go()
            if self.pid != os.getpid():
                return
            with contextlib.suppress(OSError):
                os.unlink(self._beside)
            # Another one may offer there by now.
            mark, self._mark = self._mark, None
            if mark is not None and _mark(self.path) == mark:
                with contextlib.suppress(OSError):
                    os.unlink(self.path)

    def release(self) -> None:
        """Let go of the descriptor that attend() is called for, after the last call."""
        self._selector.close()

    def leave(self) -> None:
        """Let go of everything in a forked process, where it is the other one's."""
        # Without unregister(): the kernel's list is the other process's too.
        for sock in (self.predecessor, self._socket, *self._successors):
            if sock is not None:
                sock.close()
        self._let_go()
        self._selector.close()

    def _let_go(self) -> None:
        for offered in self._offered:
            while offered.numbers:
                os.close(offered.numbers.pop())


def check_path(path: str | os.PathLike[str]) -> str:
    """Give the path as text. Errors: SettingError for what no Unix socket can be called."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise SettingError(f"takeover takes a path, not {path!r}")
    text = text.removeprefix("unix://")
    if not text or "\0" in text:
        raise SettingError(f"takeover takes the path of a Unix socket, not {text!r}")
    try:
        length = len(os.fsencode(text))
    except UnicodeError:
        raise SettingError(f"takeover takes the path of a Unix socket, not {text!r}") from None
    # Room for the name under which it is made.
    most = UNIX_PATH_MAX - len(_suffix())
    if length > most:
        raise SettingError(
            f"takeover takes a path of no more than {most} bytes, not {text!r}; "
            "choose a shorter one"
        )
    return text


def _suffix() -> str:
    return f".{os.urandom(4).hex()}"


def _ask(path: str) -> tuple[socket.socket | None, int, list[Offered]]:
    """Give whoever offers at the path, its process, and what it offers."""
    deadline = time.monotonic() + PATIENCE
    hung_up = False
    while True:
        predecessor = None
        try:
            predecessor = _connect(path, deadline)
            if predecessor is None:
                return None, 0, []
            found = _receive(path, predecessor, deadline)
        except BaseException as error:
            if predecessor is not None:
                predecessor.close()
            if hung_up and isinstance(error, ListenError) and error.errno == errno.ETIMEDOUT:
                # It has hung up before; this time there was only no time left for that.
                raise _offers_nothing(path) from None
            raise
        if found is not None:
            return predecessor, *found
        predecessor.close()
        if time.monotonic() > deadline:
            raise _offers_nothing(path)
        hung_up = True
        time.sleep(AGAIN)


def _connect(path: str, deadline: float) -> socket.socket | None:
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise _no_offer(path, error) from None
    if not stat.S_ISSOCK(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a file that is no socket"
        raise ListenError(
            f"cannot take over at {path}: that is {what}; choose another path", errno.EADDRINUSE
        )
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(remaining(deadline))
    try:
        while not _reaches(sock, path):
            if time.monotonic() > deadline:
                raise _silent(path)
            time.sleep(AGAIN)
    except ListenError:
        sock.close()
        raise
    except (ConnectionRefusedError, FileNotFoundError):
        # Its program has ended, and this is what it has left.
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise _no_offer(path, error) from None
    pid, user = _who(sock)
    trusted = {None, 0, os.geteuid()}
    if os.geteuid() == 0:
        # A program that was started by root, and has gone on as somebody else.
        trusted.add(os.stat(os.path.dirname(path) or ".").st_uid)
    if user not in trusted:
        sock.close()
        raise ListenError(
            f"{path} belongs to process {pid} of user {user}, who is not trusted with "
            "listeners; choose a path in a folder of your own",
            errno.EPERM,
        )
    return sock


def _reaches(sock: socket.socket, path: str) -> bool:
    try:
        sock.connect(path)
    except BlockingIOError:
        # Its backlog is full, and there is nothing to poll for.
        return False
    return True


def _receive(
    path: str, predecessor: socket.socket, deadline: float
) -> tuple[int, list[Offered]] | None:
    """Give its process and what it offers; None when it has ended without a word."""
    line, numbers = b"", list[int]()
    try:
        while True:
            predecessor.settimeout(remaining(deadline))
            flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
            said, more, told, _ = socket.recv_fds(predecessor, LONGEST, AT_ONCE, flags)
            numbers += more
            line += said
            if told & socket.MSG_CTRUNC:
                # Some were lost on the way.
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            for number in more:
                os.set_inheritable(number, False)
            if not said and not line:
                return None
            if b"\n" in line:
                found = _understand(line, numbers)
                if found is not None:
                    numbers = []
                    return found
            if not said or len(line) >= LONGEST or _is_wrong(line):
                raise ListenError(
                    f"{path}: whoever listens there offers no listeners that this version "
                    "understands; choose another path",
                    errno.EPROTO,
                )
    except TimeoutError:
        raise _silent(path) from None
    except ConnectionResetError:
        return None
    except OSError as error:
        if isinstance(error, ListenError):
            raise
        raise _no_offer(path, error) from None
    finally:
        for number in numbers:
            os.close(number)


def _understand(line: bytes, numbers: list[int]) -> tuple[int, list[Offered]] | None:
    """Read the offer; None where it is no offer, or descriptors are missing."""
    said = _read(line)
    rest = list(numbers)
    found = []
    try:
        for entry in said["listeners"]:
            mark = entry["mark"]
            count = int(entry["sockets"])
            mine, rest = rest[:count], rest[count:]
            if not mine or len(mine) != count:
                return None
            mark = None if mark is None else (int(mark[0]), int(mark[1]))
            # The first one is taken from the end.
            found.append(Offered(str(entry["asked"]), str(entry["address"]), mark, mine[::-1]))
        pid = int(said["pid"])
    except (LookupError, TypeError, ValueError):
        return None
    return None if rest else (pid, found)


def _is_wrong(line: bytes) -> bool:
    # A line that is whole, and none that more descriptors may follow.
    return b"\n" in line and "listeners" not in _read(line)


def _line(what: dict[str, Any]) -> bytes:
    import json

    return json.dumps({"echoframe": VERSION, **what}).encode() + b"\n"


def _read(line: bytes) -> dict[str, Any]:
    """Read a line of this version; an empty dict is anything else."""
    import json

    try:
        said = json.loads(line.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and said.get("echoframe") == VERSION else {}


def _leave_files(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.mark = None


def _who(sock: socket.socket) -> tuple[int, int | None]:
    """The process and the user at the other end; None on a system that tells of neither.

    There the mode of the file has to do.
    """
    found = credentials(sock)
    if found is not None:
        return found[:2]
    return 0, NOBODY if hasattr(socket, "SO_PEERCRED") else None


def _mark(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _plain(address: str) -> str:
    return "tcp" + address[3:] if address.startswith("tls://") else address


def _offers_nothing(path: str) -> ListenError:
    return ListenError(
        f"{path}: whoever listens there offers no listeners; choose another path",
        errno.EADDRINUSE,
    )


def _silent(path: str) -> ListenError:
    return ListenError(
        f"{path}: whoever listens there has said nothing within {PATIENCE:g} s; "
        "stop that program, or choose another path",
        errno.ETIMEDOUT,
    )


_ADVICE = {
    errno.ENOENT: "its folder is not there; make it, or choose another path",
    errno.ENOTDIR: "its folder is none; choose another path",
    errno.EACCES: "this user lacks the permission; choose a path in a folder of your own",
    errno.EPERM: "this user lacks the permission; choose a path in a folder of your own",
    errno.EROFS: "nothing can be written there; choose another path",
}


def _no_offer(path: str, error: OSError) -> ListenError:
    advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
    return ListenError(f"cannot offer listeners at {path}: {advice}", error.errno)
