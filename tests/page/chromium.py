"""Run the page's engine in headless Chromium: one start for many jobs, whose results are written into the document."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from knock.language_model import LanguageModel
from knock.page import bundle
from knock.page.weights import page_model

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--dump-dom",
]  # fmt: skip
DRIVER = Path(__file__).with_name("driver.js")
SHELL = "<!doctype html>\n<meta charset=utf-8>\n<!-- styles -->\n<pre></pre>\n<!-- data -->\n<!-- script -->\n"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


def dump(page: bytes, folder: Path) -> str:
    """Return the document of a page after its scripts have run."""
    file = folder / "page.html"
    file.write_bytes(page)
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def results(jobs: list[dict[str, Any]], folder: Path, models: list[LanguageModel] | None = None) -> list[Any]:
    """Return what `driver.js` makes of jobs: of each, an object in which typed arrays have become NumPy's.

    Args:
        jobs: what to do; a `model` is an index into models.
        folder: an empty folder.
        models: the models.
    """
    data = {"models": [page_model(lm, f"model {i}") for i, lm in enumerate(models or [])], "jobs": jobs}
    document = dump(bundle.bundle(SHELL, [DRIVER], data={"data": data}), folder)
    found = re.search(r"<pre>([\w+/=]+)</pre>", document)
    assert found is not None, document[-2000:]
    return json.loads(base64.b64decode(found[1]), object_hook=_arrays)


def encoded(values: npt.NDArray[Any]) -> dict[str, str]:
    """Return an array as the driver reads it."""
    return {"array": values.dtype.name, "data": base64.b64encode(values.tobytes()).decode()}


def _arrays(each: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(each["data"]), each["array"]) if "array" in each else each
