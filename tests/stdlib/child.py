"""One module of the standard library's tests, in this process, as its own runner runs it.

Started by run.py with a Job as JSON. Writes a line of JSON for each test, at once: of a process
that hangs or dies it is known how far it came.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import socketserver
import sys
import time
import unittest
from collections.abc import Iterator
from typing import Any, TextIO

from .replace import REPLACED, THREADING, Counter, give, replace

# What they call resources: tests that take their time; and sockets, but that is also their
# word for other people's servers, everywhere else than here.
RESOURCES = ["walltime"]
NEEDS_SOCKETS = "test.test_socketserver"


# So late (seconds) a thread may begin.
LATE = 0.2


class Late(socketserver.ThreadingMixIn):
    """The standard library's own, on a machine that has other things to do."""

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        time.sleep(LATE)
        super().process_request_thread(request, client_address)


class Lines(unittest.TestResult):
    """Writes down what came of each test."""

    def __init__(self, file: TextIO, counter: Counter, patience: float, support: Any) -> None:
        super().__init__()
        self._file, self._counter, self._patience = file, counter, patience
        self._support = support
        self._pid = os.getpid()
        self._now: dict[str, Any] | None = None
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._counter.forget()
        self._support.environment_altered = False
        self._began = time.monotonic()
        self._now = {"test": test.id(), "outcome": "passed", "text": ""}
        self._line({"began": test.id()})
        # All stacks, then the end: whatever it waits for would not end by itself.
        faulthandler.dump_traceback_later(self._patience, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        now, self._now = self._now, None
        if now is None:
            # Python 3.12.1 does not begin a test that it skips, and yet ends it.
            return
        if now["outcome"] == "passed" and self._support.environment_altered:
            now["outcome"] = "failed"
            now["text"] = "It left something behind; see the output.\n"
        seconds = time.monotonic() - self._began
        kinds, carried = sorted(self._counter.kinds), self._counter.carried
        self._line({**now, "kinds": kinds, "carried": carried, "seconds": round(seconds, 3)})

    def _line(self, fields: dict[str, Any]) -> None:
        # What the test has forked, and what came back from there, is not this one's to tell.
        if os.getpid() == self._pid:
            print(json.dumps(fields), file=self._file, flush=True)

    def _note(self, test: Any, outcome: str, text: str = "") -> None:
        now = self._now
        if now is None:
            # Around the tests of a class or of the module.
            kinds: list[str] = []
            line = {"test": test.id(), "outcome": outcome, "text": text, "kinds": kinds}
            self._line({**line, "carried": False, "seconds": 0.0})
        elif now["outcome"] == "passed" or outcome == "failed":
            now["outcome"] = outcome
            now["text"] += text

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "failed", self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = "".join(told for case, told in self.errors + self.failures if case is subtest)
            self._note(test, "failed", f"{subtest._subDescription()}\n{text}")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "expected")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "failed", "An unexpected success.\n")


def tests_in(suite: Any) -> Iterator[unittest.TestCase]:
    """All of them, in their order."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_in(test)
        else:
            yield test


def main() -> None:
    """Run what the first argument says."""
    job = json.loads(sys.argv[1])
    del sys.argv[1:]
    counter = Counter()
    if job["theirs"]:
        give(Late if REPLACED[job["model"]] == THREADING else socketserver.ForkingMixIn, counter)
    elif job["model"] is not None:
        replace(job["model"], job["plain"], counter)
    with open(job["lines"], "a", encoding="utf-8") as file:
        support = _support(job)
        result = Lines(file, counter, job["patience"], support)
        try:
            module = importlib.import_module(job["module"])
            loader = unittest.TestLoader()
            found = loader.loadTestsFromModule(module)
        except unittest.SkipTest as reason:
            result._note(_Named(job["module"]), "skipped", str(reason))
            return
        except ModuleNotFoundError as error:
            if error.name != job["module"]:
                raise
            result._line({"absent": job["module"]})
            return
        only, without = job["only"], set(job["without"])
        chosen = unittest.TestSuite(
            test
            for test in tests_in(found)
            if test.id() not in without
            and (only is None or any(_is_in(test.id(), one) for one in only))
        )
        with contextlib.suppress(KeyboardInterrupt):
            chosen.run(result)
        result._line({"over": True})
    # From here on it ends by itself: what does not let it is a failure too.
    faulthandler.dump_traceback_later(job["patience"], exit=True)


class _Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def id(self) -> str:
        return self._name


def _is_in(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(wanted + ".")


def _support(job: dict[str, Any]) -> Any:
    # By name: type checkers do not know them.
    support: Any = importlib.import_module("test.support")
    utils = importlib.import_module("test.libregrtest.utils")
    support.use_resources = [*RESOURCES, *["network"] * (job["module"] == NEEDS_SOCKETS)]
    support.verbose = 0
    support.record_original_stdout(sys.stdout)
    # What is raised in a thread or while something is collected is a failure, as in regrtest.
    for name in ("setup_unraisable_hook", "setup_threading_excepthook"):
        getattr(utils, name, bool)()
    faulthandler.enable()
    return support
