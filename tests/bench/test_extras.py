"""Programs of `bench/` without the packages that they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("program", "missing"),
    [("bench.pictures", "pyte"), ("bench.report", "pytest_benchmark"), ("bench.report", "matplotlib")],
)
def test_missing_package_is_one_line(program: str, missing: str) -> None:
    # Stand-ins for the other packages, since not all of them are installed with the tests.
    code = (
        "import runpy, sys; from unittest.mock import MagicMock; sys.argv = ['program', 'no.json'];"
        "sys.modules['pyte'] = MagicMock();"
        f"sys.modules[{missing!r}] = None; runpy.run_module({program!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"error: {missing} is not installed; in a clone of knock, run: pip install -e '.[test,bench]'\n"
    )


def test_import_by_another_module_raises() -> None:
    from bench.extras import needed

    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needed("bench.report"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
