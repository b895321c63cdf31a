"""A real browser without a window: Debian's Chromium, driven by its DevTools protocol over a websocket."""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

PROGRAM = "chromium"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--window-size=1000,700")  # fmt: skip
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0


def missing() -> str:
    """Why no browser can be used here."""
    return "" if shutil.which(PROGRAM) else f"not installed: {PROGRAM} (tests/packages.txt)"


class Browser:
    """One tab of a browser that has never been used; `folder` is an empty one for its profile."""

    def __init__(self, folder: Path):
        self.profile = folder / "profile"
        argv = [PROGRAM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(folder / "browser.log").open("w"),
            start_new_session=True,
        )  # fmt: skip
        self.numbers = itertools.count(1)
        self.open_things = ExitStack()
        self.wire = self.open_things.enter_context(connect(self._tab(), max_size=None, compression=None))

    def _tab(self) -> str:
        """The address of the tab's own wire, once the browser listens."""
        told, ends = self.profile / "DevToolsActivePort", time.monotonic() + START_SECONDS
        while not (told.exists() and told.read_text().strip()):
            assert self.process.poll() is None and time.monotonic() < ends, "the browser did not start"
            time.sleep(0.1)
        port = told.read_text().split()[0]
        while time.monotonic() < ends:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_SECONDS) as answer:
                for target in json.load(answer):
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
            time.sleep(0.1)
        raise AssertionError("the browser has no tab")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        number = next(self.numbers)
        self.wire.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.wire.recv(timeout=ANSWER_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def open(self, url: str) -> None:
        """Go to a page, without waiting for it."""
        told = self.call("Page.navigate", url=url)
        assert "errorText" not in told, told["errorText"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, letter: str) -> None:
        """A key of the keyboard, down and up: a small letter or a digit."""
        code = f"Key{letter.upper()}" if letter.isalpha() else f"Digit{letter}"
        key = {"key": letter, "code": code, "windowsVirtualKeyCode": ord(letter.upper())}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=letter, **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def screenshot(self, path: Path) -> None:
        """What a person would see, as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self.open_things.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
