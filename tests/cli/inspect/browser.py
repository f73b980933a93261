"""A page as a browser parses it, and a browser that shows it."""

from __future__ import annotations

import json
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


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
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        wanted = {"goog:chromeOptions": {"args": options}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/{session['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with self._open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def show(self, path: Path, width: int = 1100) -> None:
        self.call("POST", "/window/rect", {"width": width, "height": 900})
        self.call("POST", "/url", {"url": path.as_uri()})

    def element(self, selector: str) -> dict[str, str]:
        return self.call("POST", "/element", {"using": "css selector", "value": selector})

    def hover(self, selector: str) -> None:
        move = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": self.element(selector)}
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self.call("POST", "/actions", {"actions": [pointer]})

    def press(self, selector: str, key: str) -> None:
        (element,) = self.element(selector).values()
        self.call("POST", f"/element/{element}/value", {"text": key})

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[Any]:
        return self.call("POST", "/se/log", {"type": "browser"})


SHOWN = """
const texts = selector => [...document.querySelectorAll(selector)].map(each => each.textContent);
const marked = [...document.querySelectorAll("#text span")].map(span => span.style.getPropertyValue("--look-at"));
return {title: texts("#detail .title")[0], facts: texts(".facts dd"), expected: texts("#expected span"),
        looked: texts("#looked span"), marked: marked, current: texts("#text .current"), name: document.title,
        panels: texts("#patterns figcaption"), terms: texts("#terms dt"), key: texts("#key"),
        scales: [...document.querySelectorAll("#patterns svg")].map(svg =>
            [...svg.querySelectorAll("text")].map(each => each.textContent).join(" ")),
        papers: [...document.querySelectorAll("#text span[data-place]")].map(each => each.style.background),
        wide: document.documentElement.scrollWidth, inner: innerWidth};
"""
