"""A process for each module of tests and each replacement, and what they say, compared."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from .replace import PLAIN, REPLACED

__all__ = ["MODULES", "Finding", "Module", "Outcome", "Run", "compare", "play", "version_of"]

ROOT = Path(__file__).resolve().parents[2]

# The package of the tests, and where a child looks besides the interpreter's own places.
PACKAGE = "test"
PATHS = (str(ROOT),)

# Whose tests have to do with socketserver.
MODULES = (
    "test_socketserver",
    "test_httpservers",
    "test_xmlrpc",
    "test_docxmlrpc",
    "test_wsgiref",
    "test_logging",
    "test_urllib2_localnet",
    "test_imaplib",
    "test_ssl",
    "test_httplib",
)

# Of these the most have nothing to do with it: only those that make a server run again.
MIXED = ("test_logging", "test_ssl", "test_httplib")

DID_NOT_RUN = "It did not run."
AT_ITS_END = "(at its end)"

# What a test may take (seconds), which is more than they themselves wait for something; and
# a module.
PATIENCE = 45.0
DEADLINE = 600.0

# As the standard library's own runner has them where it looks closely; and no settings of
# whoever calls.
OPTIONS = ("-E", "-bb", "-W", "default", "-u")


@dataclass
class Job:
    """What a child is to do."""

    module: str
    lines: str
    model: str | None = None
    plain: bool = False
    # Give socketserver's own mix-in to servers that have none, and no other.
    theirs: bool = False
    # Tests, classes or modules by their full names; None is all of them.
    only: list[str] | None = None
    without: list[str] = field(default_factory=list)
    patience: float = PATIENCE


class Outcome(NamedTuple):
    """What came of one test."""

    test: str
    # "passed", "failed", "skipped", "expected" (to fail)
    outcome: str
    text: str
    # Of which kinds it made servers, and whether one of them carried our mix-in.
    kinds: tuple[str, ...] = ()
    carried: bool = False
    seconds: float = 0.0

    @property
    def reason(self) -> str:
        """The last line of a traceback."""
        return self.text.strip().rpartition("\n")[2]


class Run(NamedTuple):
    """What came of one module."""

    outcomes: dict[str, Outcome]
    # What it printed.
    output: str
    # It came to its end, and so did its process.
    over: bool = True
    # This interpreter has no such module.
    absent: bool = False

    def count(self, outcome: str) -> int:
        return sum(one.outcome == outcome for one in self.outcomes.values())

    @property
    def carried(self) -> int:
        """How many tests made a server that carried our mix-in."""
        return sum(one.carried for one in self.outcomes.values())


class Finding(NamedTuple):
    """A test that passed in the baseline, and what it did with our mix-in."""

    first: Outcome
    # And when it ran again, alone.
    again: Outcome
    # The same test, where its server was given socketserver's own mix-in: some ask for what
    # only a server without threads can do.
    theirs: Outcome | None = None

    @property
    def why(self) -> str:
        """Why it does not count; empty is "it does"."""
        if self.again.outcome == "passed":
            return "once"
        return "theirs" if self.theirs is not None and _agree(self.theirs, self.again) else ""


def _agree(one: Outcome, other: Outcome) -> bool:
    """They failed with the same words."""
    return one.outcome == other.outcome and one.reason == other.reason != ""


class Module(NamedTuple):
    """One module with one replacement, against its baseline."""

    name: str
    model: str
    baseline: Run
    run: Run
    # How many of its tests make a server of the kind that was replaced.
    expected: int
    findings: list[Finding]

    @property
    def wrong(self) -> str:
        """Why this shows nothing; empty is "it does"."""
        if not self.run.outcomes:
            return "no test ran"
        if not self.run.carried:
            return "no test made a server that carries the mix-in"
        return ""

    @property
    def failed(self) -> bool:
        return bool(self.wrong) or any(not one.why for one in self.findings)


def version_of(python: str) -> str:
    """The version of an interpreter that has the standard library's tests.

    Errors: LookupError with a sentence.
    """
    script = "import sys, test.test_socketserver; print(sys.version.split()[0])"
    try:
        done = subprocess.run(
            [python, "-E", "-c", script],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    except OSError as error:
        raise LookupError(f"{python}: {error.strerror}") from error
    if done.returncode:
        raise LookupError(f"{python} has no tests of the standard library")
    return done.stdout.strip()


def play(
    python: str, modules: Iterable[str], models: Iterable[str], plain: bool | None = None
) -> Iterator[tuple[str, Run, list[Module]]]:
    """Run each module, and again with each replacement for which it has a server.

    `modules` may also name a class or a test in one. `plain` gives servers without a mix-in
    ours as well; None is "where that does not change what memory means".

    Gives the module's name, its baseline, and one Module for each replacement.
    """
    named: dict[str, list[str]] = {}
    for name in modules:
        named.setdefault(name.split(".")[0], []).append(name)
    models = list(models)
    with tempfile.TemporaryDirectory(prefix="stdlib-") as folder, ThreadPoolExecutor(2) as two:
        player = _Player(python, Path(folder))
        waiting: list[Future[tuple[str, Run, list[Module]]]] = [
            two.submit(player.module, name, words, models, plain) for name, words in named.items()
        ]
        try:
            for one in waiting:
                yield one.result()
        finally:
            for one in waiting:
                one.cancel()
            player.end()


class _Player:
    def __init__(self, python: str, folder: Path) -> None:
        self._python, self._folder = python, folder
        # Of processes, each led by a child that runs.
        self._groups: set[int] = set()
        self._ended = False

    def end(self) -> None:
        """Start nothing more, and end what runs."""
        self._ended = True
        for group in self._groups.copy():
            _end(group)

    def module(
        self, name: str, words: list[str], models: list[str], plain: bool | None
    ) -> tuple[str, Run, list[Module]]:
        only = None if name in words else [f"{PACKAGE}.{word}" for word in words]
        baseline = self.run(Job(f"{PACKAGE}.{name}", "", only=only))
        played = []
        for model in [] if baseline.absent else models:
            wants_plain = REPLACED[model] == "ThreadingMixIn" if plain is None else plain
            kinds = {REPLACED[model], PLAIN} if wants_plain else {REPLACED[model]}
            making = [one.test for one in baseline.outcomes.values() if kinds & set(one.kinds)]
            if not making:
                continue
            job = Job(
                f"{PACKAGE}.{name}",
                "",
                model,
                wants_plain,
                only=making if name in MIXED else only,
            )
            run = self.run(job)
            found = compare(baseline, run, job.only)
            findings = [self._finding(job, one, baseline) for one in found]
            played.append(Module(name, model, baseline, run, len(making), findings))
        return name, baseline, played

    def _finding(self, job: Job, one: Outcome, baseline: Run) -> Finding:
        again = self._alone(job, one, theirs=False)
        before = baseline.outcomes.get(one.test)
        if (
            again.outcome == "passed"
            or not job.plain
            or before is None
            or PLAIN not in before.kinds
        ):
            return Finding(one, again)
        return Finding(one, again, self._alone(job, one, theirs=True))

    def _alone(self, job: Job, one: Outcome, theirs: bool) -> Outcome:
        alone = Job(job.module, "", job.model, job.plain, theirs, [one.test])
        return self.run(alone).outcomes.get(one.test, Outcome(one.test, "failed", DID_NOT_RUN))

    def run(self, job: Job) -> Run:
        """Run a module to its end; from the next test on where one ends the process."""
        outcomes: dict[str, Outcome] = {}
        output = ""
        while True:
            with tempfile.TemporaryDirectory(dir=self._folder) as place:
                job.lines = os.path.join(place, "lines")
                job.without = list(outcomes)
                said, why = self._child(job, place)
                lines = [json.loads(line) for line in _whole_lines(job.lines)]
            output += said
            if any("absent" in line for line in lines):
                return Run({}, output, absent=True)
            began = ""
            for line in lines:
                began = line.get("began", began)
                if "test" in line:
                    line["kinds"] = tuple(line["kinds"])
                    # A test's, and what was around it, by one name: the worst of them.
                    before = outcomes.get(line["test"])
                    if before is None or before.outcome != "failed":
                        outcomes[line["test"]] = Outcome(**line)
            if any("over" in line for line in lines) and not why:
                return Run(outcomes, output)
            if self._ended:
                raise RuntimeError("the run was ended")
            culprit = began if began not in outcomes else f"{job.module} {AT_ITS_END}"
            outcomes[culprit] = Outcome(culprit, "failed", f"{why}\n{_tail(said)}")
            if culprit != began:
                return Run(outcomes, output, over=False)

    def _child(self, job: Job, place: str) -> tuple[str, str]:
        """Run it; what it printed, and what was wrong with how it ended."""
        script = f"from {__package__}.child import main; main()"
        script = f"import sys; sys.path[:0] = {list(PATHS)!r}; {script}"
        command = [self._python, *OPTIONS, "-c", script, json.dumps(asdict(job))]
        with tempfile.TemporaryFile("w+", errors="replace", dir=self._folder) as output:
            child = subprocess.Popen(
                command,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # So that what it started can be ended with it.
                start_new_session=True,
            )
            timer = threading.Timer(DEADLINE, _end, [child.pid])
            timer.start()
            self._groups.add(child.pid)
            if self._ended:
                _end(child.pid)
            # Only looked at: until it is collected, its number is its own.
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            timer.cancel()
            timer.join()
            self._groups.discard(child.pid)
            _end(child.pid)
            status = child.wait()
            why = f"The process ended with {status}." if status else ""
            if status == -signal.SIGKILL:
                why = f"It was not over within {DEADLINE:g} s."
            output.seek(0)
            return output.read(), why


def _end(group: int) -> None:
    """End a child, and with it whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def compare(baseline: Run, run: Run, only: list[str] | None = None) -> list[Outcome]:
    """What does not do with our mix-in what it did without."""
    found = []
    for name, before in baseline.outcomes.items():
        if only is not None and not any(f"{name}.".startswith(f"{one}.") for one in only):
            continue
        after = run.outcomes.get(name, Outcome(name, "failed", DID_NOT_RUN))
        if before.outcome != "failed" and after.outcome != before.outcome:
            found.append(after)
    # Around a class, or at the end of the process, nothing is said unless it is wrong.
    found += [
        one
        for name, one in run.outcomes.items()
        if name not in baseline.outcomes and one.outcome == "failed"
    ]
    return found


def _whole_lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-80:])
