"""A clear message, instead of a traceback, if a program of this folder is run without the packages that it needs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def needed(importer: str) -> Iterator[None]:
    """Exit with one line if an import fails in a module that is run as a program; elsewhere the error is raised.

    Args:
        importer: `__name__` of the module.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if importer != "__main__":
            raise
        package = str(error.name).partition(".")[0]
        sys.exit(f"error: {package} is not installed; in a clone of knock, run: pip install -e '.[test,bench]'")
