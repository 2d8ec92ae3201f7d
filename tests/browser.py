"""A real Chromium, controlled with the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


class Session:
    """A connection to the browser, or to one of its pages, that sends it commands."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0

    def send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        deadline = time.monotonic() + 60
        while True:  # events may come without end
            message = json.loads(self._socket.recv(timeout=deadline - time.monotonic()))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        """Takes note of an event."""


class Browser(Session):
    """One page of the browser. `errors` has the errors in its console, `requested_urls` the URLs of its requests."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self.errors: list[str] = []
        self.requested_urls: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(str(message["params"]["entry"]))
        elif message.get("method") == "Network.requestWillBeSent":
            self.requested_urls.append(message["params"]["request"]["url"])

    def go(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> Any:
        """Returns the value of an expression once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"{script}\n{self.run('document.body.innerText')}\n{self.errors}"
            time.sleep(0.1)
        return value

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def click(self, selector: str, text: str = "") -> None:
        """Clicks with the mouse in the middle of the first matching element that contains the text."""
        found = f"[...document.querySelectorAll({selector!r})].find((e) => e.innerText.includes({text!r}))"
        where = f"(() => {{ const e = {found}; if (!e) return null; e.scrollIntoView({{block: 'center'}});"
        where += " const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;"
        where += " const hit = document.elementFromPoint(x, y); return hit && e.contains(hit) ? [x, y] : null; })()"
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        x, y = self.until(where)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def fill(self, selector: str, value: str) -> None:
        """Enters a value in a field, or selects it in a list."""
        self.until(f"!!document.querySelector({selector!r})")
        self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.value = {value!r};"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def set_screen(self, width: int, height: int, dark: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def save_screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def chromium() -> Iterator[str]:
    """Runs a browser with an empty profile until the block ends; yields the address that takes its commands."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [CHROMIUM or "chromium", *options, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port_file, deadline = Path(profile) / "DevToolsActivePort", time.monotonic() + 60
            while not (port_file.exists() and port_file.read_text().strip()):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
            port, path = port_file.read_text().split()
            yield f"ws://127.0.0.1:{port}{path}"
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def new_page(address: str) -> Iterator[Browser]:
    """A page of a running browser that shares no cookies, storage or cache with its others, until the block ends."""
    with connect(address, max_size=None, proxy=None) as commands:
        running = Session(commands)
        context = running.send("Target.createBrowserContext")["browserContextId"]
        page = running.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        page_address = f"{address.partition('/devtools/')[0]}/devtools/page/{page}"
        # Without a limit of events that nobody has read yet, of which closing would wait 10 s.
        with connect(page_address, max_size=None, max_queue=None, proxy=None) as socket:
            yield Browser(socket)
        running.send("Target.disposeBrowserContext", browserContextId=context)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """The only page of a browser that runs until the block ends."""
    with chromium() as address, new_page(address) as page:
        yield page
