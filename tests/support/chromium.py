"""A browser for tests: headless chromium, controlled through its debugging pipe.

The protocol consists of JSON messages terminated by a NUL byte, on file descriptors 3 (to the browser) and 4 (from it).
Source: Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
# The pipes must be descriptors 3 and 4 in the browser process, whatever they are here.
LAUNCHER = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def find() -> str | None:
    """Return the path of the browser; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A running browser."""

    def __init__(self, program: str, profile: str) -> None:
        browser_in, self._out = os.pipe()
        self._in, browser_out = os.pipe()
        # Above 4, so that moving one descriptor does not close the other.
        read, write = (os.dup(browser_in), os.dup(browser_out))
        while min(read, write) <= 4:
            read, write = os.dup(read), os.dup(write)
        command = [
            sys.executable,
            "-c",
            LAUNCHER,
            str(read),
            str(write),
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            command, pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for descriptor in {browser_in, browser_out, read, write}:
            os.close(descriptor)
        self._received = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its response; events received before it are stored."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            got = os.read(self._in, 1 << 20) if ready else b""
            if not got:
                raise TimeoutError("the browser does not respond")
            self._received += got
        first, self._received = self._received.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        return message

    @contextmanager
    def open(
        self, path: Path, *, width: int = 1280, phone: bool = False, dark: bool = False
    ) -> Iterator[Page]:
        """Open a file in a new page, with its figures drawn, and close it afterwards."""
        page = Page(self)
        page.view(width, phone=phone, dark=dark)
        page.load(path)
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=page.target)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        os.close(self._in)
        os.close(self._out)


class Page:
    """A loaded report."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def load(self, path: Path) -> None:
        """Open a file and wait until its figures are drawn, or have failed to be."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.wait(
            "!document.getElementById('figures') || document.documentElement.dataset.drawn"
            " || !document.getElementById('figures-failed').hidden"
        )

    def view(self, width: int = 1280, *, phone: bool = False, dark: bool = False) -> None:
        """Set the width of the window, whether it is a phone, and the color scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"timed out waiting for: {condition}")
            time.sleep(0.05)

    def _own(self, *methods: str) -> list[dict[str, Any]]:
        self.value("new Promise(done => setTimeout(done, 50))")
        return [
            event["params"]
            for event in self.browser.events
            if event.get("sessionId") == self.session and event["method"] in methods
        ]

    def console(self) -> list[str]:
        """Return all console messages, exceptions, and log entries of the browser."""
        messages = [str(event["args"]) for event in self._own("Runtime.consoleAPICalled")]
        messages += [str(event["exceptionDetails"]) for event in self._own("Runtime.exceptionThrown")]
        return messages + [str(event["entry"]["text"]) for event in self._own("Log.entryAdded")]

    def requests(self) -> list[str]:
        """Return the requested URLs, except for the file itself and data URLs."""
        urls = [event["request"]["url"] for event in self._own("Network.requestWillBeSent")]
        own = self.value("location.href.split('#')[0]")
        return [url for url in urls if url != own and not url.startswith("data:")]

    def screenshot(self, path: Path) -> Path:
        """Save a screenshot of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def print(self, path: Path) -> Path:
        """Save the page as PDF."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))
        return path

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a position."""
        for step in (x - 1, x):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=step, y=y)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key; ``text`` is the text it types, without which Enter has no effect."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )


@contextmanager
def running(program: str) -> Iterator[Browser]:
    """Start a browser with its own profile, and stop it at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            yield browser
        finally:
            browser.close()
