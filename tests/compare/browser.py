"""A headless Chromium, spoken to over two pipes: no port, no library."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# For all that is asked of one browser.
DEADLINE = 40.0


class Browser:
    """One page in it. `said` is what its console and its network had to tell."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._end = time.monotonic() + DEADLINE
        self._rest = b""
        self._asked = 0
        self._session: str | None = None
        self.said: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = self._end - time.monotonic()
            assert left > 0, "the browser has not answered in time"
            if select.select([self._read], [], [], left)[0]:
                more = os.read(self._read, 1 << 20)
                assert more, "the browser has ended"
                self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def ask(self, method: str, **parameters: Any) -> Any:
        """Have something done, and give what came of it."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._asked:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.said.append(answer)

    def run(self, script: str) -> Any:
        """Give the value of an expression of JavaScript; of a promise, what it promises."""
        done = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def show(self, file: Path, width: int, height: int = 900) -> None:
        """Open a page, so wide, and wait until it has drawn everything."""
        self.resize(width, height)
        self.ask("Page.navigate", url=file.as_uri())
        self.drawn()

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window so wide, and wait until it is drawn so."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        if self.run("location.protocol") == "file:":
            # A page too wide for it is wider than the window, and is to be seen as it is.
            self.run(
                "new Promise(then => { const look = () => Math.abs(innerWidth - " + str(width) + ")"
                " < 200 ? requestAnimationFrame(() => setTimeout(then)) : setTimeout(look, 5);"
                " look(); })"
            )
            self.drawn()

    def drawn(self) -> None:
        """Wait until everything is drawn."""
        while not self.run(
            "document.readyState === 'complete' && document.documentElement.dataset.drawn === 'all'"
        ):
            assert time.monotonic() < self._end, "not drawn in time"
            time.sleep(0.02)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and whatever was to be loaded from elsewhere."""
        found = []
        for one in self.said:
            method, more = one.get("method"), one.get("params", {})
            level = more.get("type") if method == "Runtime.consoleAPICalled" else None
            if method == "Log.entryAdded":
                level = more["entry"]["level"]
            if method == "Runtime.exceptionThrown" or level in ("error", "warning"):
                found.append(json.dumps(more))
            elif method == "Network.requestWillBeSent" and not more["request"]["url"].startswith(
                ("file:", "data:", "blob:")
            ):
                found.append(f"asked for {more['request']['url']}")
        return found


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # It reads from 3 and writes to 4; a shell puts them there.
    shell = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
    arguments = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu",
        "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, "chromium", *arguments],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        # Its ends closed, it leaves of its own accord, with its children.
        os.close(ours_out)
        os.close(ours_in)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(10)
