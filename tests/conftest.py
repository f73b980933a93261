import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before knock is imported: the kernels are compiled once for all tests and all processes they start. A folder that the
# variable names already is used instead, and makes the next run quicker.
if "KNOCK_CACHE_DIR" not in os.environ:
    _folder = tempfile.TemporaryDirectory(prefix="knock-tests-")
    os.environ["KNOCK_CACHE_DIR"] = _folder.name
os.environ.pop("KNOCK_BACKEND", None)

from knock.engine.backends import compile_now
from knock.language_model import LanguageModel, load
from knock.models import DEFAULT
from tests.machine import Machine

settings.register_profile("knock", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("knock")


def pytest_sessionstart() -> None:
    # In a background job Ctrl-C is ignored, and so it would be in every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    compile_now()


@pytest.fixture(scope="session")
def shakespeare() -> LanguageModel:
    return load("shakespeare-hybrid")


@pytest.fixture(scope="session")
def default() -> LanguageModel:
    return load(DEFAULT)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)
