import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Set before knock is imported: kernels are compiled once for all tests and the processes they start. If the variable is
# already set, that folder is used, which makes the next run faster.
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
    # A background job ignores SIGINT, and so would every process that a test starts.
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
