"""A page as a browser parses it, and a browser that shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BACKSPACE, ENTER, ESCAPE, TAB, END, HOME, LEFT, UP, RIGHT, DOWN = (
    "\ue003", "\ue007", "\ue00c", "\ue004", "\ue010", "\ue011", "\ue012", "\ue013", "\ue014", "\ue015",
)  # fmt: skip
_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


class Scripts(HTMLParser):
    """Collects the scripts of a page as a browser parses them, and the URLs that it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.fetched: list[str] = []
        self._is_inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_inside = tag == "script"
        self.scripts += [""] * self._is_inside
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href") and value != "data:,"]

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.scripts[-1] += data


class Browser:
    """Headless Chromium, driven through the W3C WebDriver protocol."""

    def __init__(self, port: str, folder: Path) -> None:
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={folder}"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        session = self.call(
            "POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}}
        )
        self._url += f"/{session['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with self._open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def show(self, path: Path, width: int = 1280) -> None:
        """Open a page, and wait until it has looked at a character and drawn the patterns."""
        self.resize(width)
        self.console()
        self.requests()
        self.call("POST", "/url", {"url": path.as_uri()})
        self.wait("document.querySelector('.bar-row') && document.querySelector('.panel')")

    def resize(self, width: int) -> None:
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def element(self, selector: str) -> dict[str, str]:
        return self.call("POST", "/element", {"using": "css selector", "value": selector})

    def hover(self, selector: str) -> None:
        move = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": self.element(selector)}
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self.call("POST", "/actions", {"actions": [pointer]})

    def click(self, selector: str) -> None:
        (element,) = self.element(selector).values()
        self.call("POST", f"/element/{element}/click", {})

    def press(self, selector: str, keys: str) -> None:
        """Focus an element and press keys."""
        (element,) = self.element(selector).values()
        self.call("POST", f"/element/{element}/value", {"text": keys})

    def keys(self, keys: str) -> None:
        """Press keys wherever the focus is."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def set(self, selector: str, value: object) -> None:
        """Set the value of a slider, a number, a choice or a text, as its reader would."""
        event = "change" if selector in ("#seed", "#length", "#chosen") else "input"
        self.run(
            f"const it = document.querySelector({json.dumps(selector)}); it.value = {json.dumps(value)};"
            f"it.dispatchEvent(new Event('{event}', {{ bubbles: true }}));"
        )

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector: str) -> str:
        return self.run(f"return document.querySelector({json.dumps(selector)}).textContent")

    def texts(self, selector: str) -> list[str]:
        return self.run(
            f"return [...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)"
        )

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true, and return it."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if value := self.run(f"return {condition}"):
                return value
            time.sleep(0.02)
        raise TimeoutError(f"{condition} is still false; console: {self.console()}")

    def settled(self) -> None:
        """Wait until the model has written, and the page shows all that it says about the text."""
        self.wait("!knock.session.isWriting && knock.isSettled")

    def console(self) -> list[Any]:
        """The messages since the last call."""
        return self.call("POST", "/se/log", {"type": "browser"})

    def requests(self) -> list[str]:
        """The URLs that pages from files have requested since the last call, except for themselves and their data."""
        logged = self.call("POST", "/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in logged]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        urls = [each["request"]["url"] for each in sent if each["documentURL"].startswith("file:")]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile; skip the test if it is not installed."""
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = next(found[1] for line in process.stdout if (found := re.search(r"on port (\d+)\.", line)))
        browser = None
        try:
            browser = Browser(port, folder / "profile")
            yield browser
        finally:
            if browser is not None:
                browser.call("DELETE", "")
            process.terminate()
