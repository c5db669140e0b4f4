"""SIGTERM in a process of an adopted program, unless the program has a handler of its own.

    with servers     they stop and drain, and the program ends by itself, or is ended: 0.
                     A second signal cuts: 143
    with children    it is passed on to them, and the process ends as they did
    with neither     the process ends of it, as it would have

Nothing is imported here but what Python has loaded anyway, or what is needed when a
signal has come.
"""

from __future__ import annotations

import _signal
import os
import sys
from _thread import get_ident

# typing's own costs more than all of this file.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, NoReturn

__all__ = [
    "end_as_they_did",
    "has_had_children",
    "has_sigterm",
    "hooks",
    "is_ending",
    "is_of_multiprocessing",
    "keep_sigterm",
    "say",
    "take_sigterm",
]

# So long (seconds) a program has to end by itself, once all is over: one whose main
# thread served, and may have something to do behind that; and any other.
AFTER_SERVING = 5.0
MOMENT = 0.5
# And so long to end when it was told to, and to be over then: others' children, too, may
# have something to finish.
PATIENCE = 5.0
LAST = 30.0

# How often a child is looked at that was told to end.
LOOK = 0.02

# In the place of an exit code: it lives on.
IGNORED = -1

# The kernel tells of processes.
_TELLS = os.path.exists("/proc/self/status")

# Their handlers of SIGTERM end the process, and say no more than that. What serves in
# their children, or in another thread, would be cut off by them.
RELOADERS = ("werkzeug._reloader", "django.utils.autoreload")


# As a shell says it.
_TERMINATED = 128 + _signal.SIGTERM


class Hooks:
    """What is known of servers, once there may be some."""

    # Those with which this process serves.
    servers: Callable[[], list[Any]] = staticmethod(list)
    # From a signal handler: accept no more; and then, give up what is left.
    stop: Callable[[Any], object]
    cut: Callable[[Any], object]
    # Wait for what is going on there.
    close: Callable[[Any], object]
    # What is said at the end of the process of this id, if SIGTERM leaves no time for it.
    last_words: Callable[[int], object] = staticmethod(int)


hooks = Hooks()


def take_sigterm() -> None:
    """Handle SIGTERM, if nobody does and it is the main thread that can."""
    if _signal.getsignal(_signal.SIGTERM) != _signal.SIG_DFL:
        return
    try:
        _signal.signal(_signal.SIGTERM, _on_sigterm)
    except ValueError:
        # Another thread serves, in a process that was forked.
        return
    if not _hooked:
        _hooked.append(True)
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_begin_anew)


def has_sigterm() -> bool:
    """Tell whether SIGTERM is handled here, and not by the program."""
    return _signal.getsignal(_signal.SIGTERM) is _on_sigterm


def is_ending() -> bool:
    """Tell whether SIGTERM has come to this process, and ends its servers."""
    return bool(_endings) and _endings[-1].pid == os.getpid()


def end_as_they_did() -> None:
    """End this process by SIGTERM if that is due; the last thing that it does."""
    if is_ending() and _endings[-1].due and _endings[-1].code is None:
        _flush()
        _die()


def keep_sigterm(module: ModuleType) -> None:
    """Have signal.signal() leave SIGTERM alone where a reloader wants to take it."""
    from functools import wraps

    real: Any = vars(module)["signal"]

    @wraps(real)
    def signal(number: Any, handler: Any) -> Any:
        if number == _signal.SIGTERM and has_sigterm():
            whose = getattr(handler, "__module__", None)
            if whose in RELOADERS:
                return _on_sigterm
        return real(number, handler)

    vars(module)["signal"] = signal


def say(sentence: str) -> None:
    """Write a line on stderr, if anybody can hear it."""
    try:
        sys.stderr.write(f"echoframe: {sentence}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass


# A child forgets what has come before it could be handled there. So it comes later.
# By thread: the masks that they had.
_held: dict[int, set[int]] = {}


def _hold() -> None:
    _held[get_ident()] = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM,))


def _let_go() -> None:
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _held.pop(get_ident()))


def _begin_anew() -> None:
    # A handler does not run where a signal comes just before something that waits: whoever
    # waits for the end of a child would wait for ever. So a child ends of it, until it serves.
    if has_sigterm():
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    _let_go()


# Not empty once these are called around each fork.
_hooked: list[bool] = []


def is_of_multiprocessing() -> bool:
    """Tell whether this process is a helper or a worker of that, to which the same applies."""
    return any(word.startswith("from multiprocessing.") for word in sys.orig_argv[1:])


# --------------------------------------------------------------- the signal


def _on_sigterm(number: int, frame: object) -> None:
    # A forked child has not heard what its parent has.
    if not is_ending():
        _endings.append(_Ending())
    _endings[-1].signalled()


class _Ending:
    """How this process ends."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.signals = 0
        self.cut = False
        # Nothing is left to wait for: the next signal, which is our own, ends the program.
        self.due = False
        # With what; None is SIGTERM's own way.
        self.code: int | None = 0
        self.servers: list[Any] = []

    def signalled(self) -> None:
        """It has come, perhaps again. In the main thread, between any two steps of it."""
        if self.due:
            # Whoever cleans up behind a program does; see end_as_they_did().
            raise SystemExit(_TERMINATED if self.code is None else self.code)
        self.signals += 1
        if self.signals > 1:
            self._hurry()
            return
        self.servers = hooks.servers()
        if self.servers:
            self._stop_servers()
        elif _children():
            self._tell_children()
        else:
            _die()

    def _stop_servers(self) -> None:
        from threading import Event, Thread

        main = any(server._life.serving == get_ident() for server in self.servers)
        over = Event()

        def drain() -> None:
            try:
                for server in self.servers:
                    hooks.close(server)
            finally:
                if self.cut:
                    # The program waits for this thread, and would give a code of its own.
                    _leave(_TERMINATED)
                over.set()

        def look_after() -> None:
            over.wait()
            self._see_out(AFTER_SERVING if main else MOMENT)

        for server in self.servers:
            hooks.stop(server)
        try:
            Thread(target=look_after, name="echoframe-ending", daemon=True).start()
            # The program may end meanwhile, and waits for this one.
            Thread(target=drain, name="echoframe-drain", daemon=False).start()
        except RuntimeError:
            # No threads are left. Its end closes the servers as well.
            raise SystemExit(0) from None

    def _tell_children(self) -> None:
        from threading import Thread

        daemons = _daemons()
        told = [pid for pid in _children() if pid not in daemons]
        for pid in told:
            _kill(pid)

        def look_after() -> None:
            codes = [code for code in map(_end_of, told) if code != IGNORED]
            # As the first of them that did not end well; and of the signal, if there was none.
            self.code = next((code for code in codes if code != 0), 0 if codes else None)
            self._see_out(MOMENT if codes else 0)

        try:
            Thread(target=look_after, name="echoframe-ending", daemon=True).start()
        except RuntimeError:
            # They know, and nobody is left to wait for them.
            _die()

    def _hurry(self) -> None:
        if self.servers:
            self.cut = True
            for server in self.servers:
                hooks.cut(server)
            return
        for pid in _children():
            _kill(pid)

    def _see_out(self, patience: float) -> None:
        """End the program, unless it does so itself."""
        from threading import main_thread

        main = main_thread()
        main.join(patience)
        if main.is_alive():
            self.due = True
            _signal.pthread_kill(main.ident or 0, _signal.SIGTERM)
            main.join(PATIENCE)
        if not main.is_alive():
            # This thread is over when the interpreter is. Until then a thread of the
            # program's may hold that up.
            from time import sleep

            sleep(LAST)
        _leave(_TERMINATED if self.code is None else self.code)


# The last one is this process's, once SIGTERM has come.
_endings: list[_Ending] = []


def _die() -> None:
    hooks.last_words(os.getpid())
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    os.kill(os.getpid(), _signal.SIGTERM)


def _leave(code: int) -> NoReturn:
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


# ------------------------------------------------------------- the children


def has_had_children() -> bool:
    """Tell whether this process has started any, as far as can be known afterwards."""
    from resource import RUSAGE_CHILDREN, getrusage

    return bool(getrusage(RUSAGE_CHILDREN).ru_maxrss or _children())


def _kill(pid: int) -> None:
    try:
        os.kill(pid, _signal.SIGTERM)
    except OSError:
        # It has ended, or become somebody else.
        pass


def _end_of(pid: int) -> int | None:
    """Wait for a child, and leave it to the program; its exit code, None for SIGTERM."""
    from time import sleep

    found = None
    while found is None:
        try:
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            # The program was waiting as well, and knows what to make of it.
            return 0
        if found is None:
            if _TELLS and _ignores(_status(pid)):
                # It was only just started, and has learned by now to ignore the signal.
                return IGNORED
            sleep(LOOK)
    if found.si_code == os.CLD_EXITED:
        return found.si_status
    return None if found.si_status == _signal.SIGTERM else 128 + found.si_status


def _children() -> list[int]:
    """The children of this process that SIGTERM would end."""
    found: list[str] = []
    try:
        for task in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{task}/children") as file:
                    found += file.read().split()
            except ProcessLookupError:
                # That thread has just ended.
                pass
    except OSError:
        return _started()
    return [pid for pid in map(int, found) if _minds(pid)]


def _daemons() -> set[int | None]:
    """Those that multiprocessing ends itself, and that may hold a lock which it needs then."""
    if "multiprocessing.process" not in sys.modules:
        return set()
    known = vars(sys.modules["multiprocessing.process"])["_children"]
    return {child.pid for child in list(known) if child.daemon}


def _minds(pid: int) -> bool:
    # Some live as long as their parent, whatever comes: multiprocessing's tracker.
    status = _status(pid)
    return bool(status) and status["State"].split()[0] != "Z" and not _ignores(status)


def _ignores(status: dict[str, str]) -> bool:
    # Who has just ended ignores nothing.
    return bool(int(status.get("SigIgn", "0"), 16) >> (_signal.SIGTERM - 1) & 1)


def _status(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status") as file:
            return dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        # It has gone.
        return {}


def _started() -> list[int]:
    """Where the kernel does not tell: what Python knows."""
    import gc

    kinds = [
        vars(sys.modules[module])[name]
        for module, name in (
            ("subprocess", "Popen"),
            ("multiprocessing.popen_fork", "Popen"),
        )
        if module in sys.modules
    ]
    # The type itself: what only pretends to be one may do anything when it is asked.
    return [
        one.pid
        for one in gc.get_objects()
        if issubclass(type(one), tuple(kinds)) and one.returncode is None
    ]
