"""Fixtures of the tests of the page: one browser for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knock import LanguageModel, load
from knock.page.document import Opening, document
from tests.page.browser import Browser, open_browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser, as before the first visit; a test that leaves an error in its console, or a request, fails."""
    chromium.devtools("Storage.clearDataForOrigin", origin="file://", storageTypes="local_storage")
    yield chromium
    assert chromium.console() == []
    assert chromium.requests() == []


@pytest.fixture(scope="session")
def nano() -> LanguageModel:
    return load("shakespeare-nano")


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Callable[..., Browser]:
    """Return a function that shows the page of a model in the browser."""

    def shown(lm: LanguageModel, name: str = "model", *, width: int = 1280, **opening: str) -> Browser:
        path = tmp_path / "page.html"
        path.write_bytes(document(lm, name, Opening(**opening)))
        browser.show(path, width)
        return browser

    return shown
