"""A page in headless Chromium, spoken to over its DevTools protocol: what it says, fetches and draws."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_S = 120.0


@dataclass
class Page:
    """A page that is loaded; `said` are errors of its console, `fetched` all addresses but its own."""

    socket: Any
    own: str
    said: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    is_loaded: bool = False
    _number: int = 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command; what else happens meanwhile is noted."""
        self._number += 1
        self.socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                answer: dict[str, Any] = message["result"]
                return answer
            self._note(message)

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Until an expression is true."""
        end_s = time.monotonic() + WAIT_S
        while not self.value(script):
            assert time.monotonic() < end_s, f"never true: {script}"
            time.sleep(0.05)

    def resize(self, width: int, height: int = 900) -> None:
        """Pixels of CSS; a window is never narrower than 500."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def picture(self, out: Path) -> None:
        """All of the page, as PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        out.write_bytes(base64.b64decode(shot["data"]))

    def note_next(self) -> None:
        """Wait for something to happen."""
        self._note(json.loads(self.socket.recv()))

    def _note(self, message: dict[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.is_loaded = True
        if method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(about["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.said.append(json.dumps(about["args"])[:500])
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.said.append(json.dumps(about["entry"])[:500])
        elif method == "Network.requestWillBeSent":
            address = about["request"]["url"]
            if address.partition("#")[0] != self.own and not address.startswith("data:"):
                self.fetched.append(address)


@contextmanager
def opened(file: Path, width: int) -> Iterator[Page]:
    """`file` loaded at a width in pixels, in a browser of its own."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
            "--remote-allow-origins=*", f"--user-data-dir={profile}", "--no-first-run",
            "--disable-extensions", "--disable-dev-shm-usage", "about:blank",
        ]  # fmt: skip
        browser = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"HOME": profile}
        )
        try:
            socket = websocket.create_connection(_address(Path(profile), browser), timeout=WAIT_S)
            try:
                yield _loaded(socket, file.resolve().as_uri(), width)
            finally:
                socket.close()
        finally:
            browser.terminate()
            browser.wait(WAIT_S)


def _address(profile: Path, browser: "subprocess.Popen[bytes]") -> str:
    """Of the browser's only page. Its port is in a file that it writes."""
    import urllib.request

    port_file, end_s = profile / "DevToolsActivePort", time.monotonic() + WAIT_S
    while not (port_file.is_file() and port_file.read_text().count("\n")):
        assert browser.poll() is None and time.monotonic() < end_s, "the browser did not start"
        time.sleep(0.05)
    port = port_file.read_text().split("\n")[0]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])


def _loaded(socket: Any, address: str, width: int) -> Page:
    page = Page(socket, address)
    for domain in ("Page", "Runtime", "Log", "Network"):
        page.ask(f"{domain}.enable")
    page.resize(width)
    page.is_loaded = False
    page.ask("Page.navigate", url=address)
    while (
        not page.is_loaded
    ):  # nothing is asked meanwhile: a question to the page that goes away has no answer
        page.note_next()
    return page
