"""A real browser without a window, driven over its debugging pipe.

The protocol is Chromium's own (DevTools): JSON messages that end in a zero byte, read
by the browser from descriptor 3 and written to descriptor 4. No driver is needed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Json = dict[str, object]

NAMES = ("chromium", "chromium-browser", "google-chrome")
EXECUTABLE = next(filter(None, map(shutil.which, NAMES)), None)

READING, WRITING = 3, 4
"""The descriptors at which Chromium expects its pipes."""

OTHERS = 10
"""Ours are at least so far from them."""

PATIENCE_S = 120


class Chromium:
    """One browser with one tab."""

    def __init__(self, profile: Path) -> None:
        assert EXECUTABLE is not None
        its_read, self._write = _pipe()
        self._read, its_write = _pipe()

        def connect() -> None:
            os.dup2(its_read, READING)
            os.dup2(its_write, WRITING)

        flags = ["--headless=new", "--disable-gpu", "--remote-debugging-pipe"]
        flags += ["--no-first-run", "--disable-background-networking"]
        flags += ["--no-sandbox"] if os.getuid() == 0 else []
        self._process = subprocess.Popen(
            [EXECUTABLE, *flags, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_read)
        os.close(its_write)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[Json] = []
        """What the browser has told without being asked."""
        (tab,) = self._tabs()
        attached = self.ask("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = str(attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def _tabs(self) -> Iterator[str]:
        found = self.ask("Target.getTargets")["targetInfos"]
        assert isinstance(found, list)
        return (info["targetId"] for info in found if info["type"] == "page")

    def ask(self, method: str, **params: object) -> Json:
        """One command of the protocol, answered."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        result = answer["result"]
        assert isinstance(result, dict)
        return result

    def _next(self) -> Json:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 16)
            assert data, "the browser has gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def go(self, url: str) -> None:
        """Opens an address, from a page that is not the same but for its fragment."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=url)

    def read(self, expression: str) -> object:
        """The value of an expression on the page; of a promise, when it is kept."""
        told = self.ask(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in told, (expression, told)
        result = told["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def until(self, condition: str) -> None:
        """Waits until an expression on the page is true."""
        tries = f"""new Promise((done, fail) => {{
            const end = Date.now() + {PATIENCE_S * 1000};
            const look = () => {{
                let found = false;
                try {{ found = Boolean({condition}); }} catch {{ }}
                if (found) done(true);
                else if (Date.now() > end) done(document.body.innerText);
                else setTimeout(look, 50);
            }};
            look();
        }})"""
        found = self.read(tries)
        assert found is True, f"never came: {condition}\n{found}"

    def window(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """The size of the window, and which colours the user likes."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.ask("Emulation.setDeviceMetricsOverride", **size, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def told(self, *methods: str) -> list[Json]:
        """The events of these kinds so far."""
        self.read("0")  # what has happened before is told before this is answered
        return [event for event in self.events if event.get("method") in methods]

    def close(self) -> None:
        """Ends it."""
        os.close(self._write)
        self._process.terminate()
        self._process.wait()
        os.close(self._read)


def _pipe() -> tuple[int, int]:
    """Its two ends, at descriptors that Chromium's do not replace."""
    low = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, OTHERS) for end in low)
    for end in low:
        os.close(end)
    return read, write


@contextmanager
def browser() -> Iterator[Chromium]:
    """A browser with a profile of its own, ended with the block."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        found = Chromium(Path(profile))
        try:
            yield found
        finally:
            found.close()
