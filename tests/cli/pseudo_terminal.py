"""A pseudo-terminal in which tests run knock as a user does."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

PATIENCE = 60.0  # seconds
UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"
STEERING = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\x08")
STYLED_BY = {"COLORTERM", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TERM"}

# Makes the terminal the controlling one of a new session, so that Ctrl-C sends SIGINT.
START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"


class Terminal:
    """Runs knock in a pseudo-terminal; types keys and reads the output.

    The history of its user is an empty one, which is removed afterwards.
    """

    def __init__(self, *arguments: str, columns: int = 80, **variables: str) -> None:
        self._main, side = pty.openpty()
        termios.tcsetwinsize(side, (50, columns))
        self._home = tempfile.TemporaryDirectory(prefix="knock-home-")
        home = Path(self._home.name)
        for state in (home / "knock", home / "Library" / "Application Support" / "knock"):
            state.mkdir(mode=0o700, parents=True)
            (state / "history").touch()  # otherwise, that of an earlier version would be moved here from the cache
        inherited = {name: value for name, value in os.environ.items() if name not in STYLED_BY}
        inherited["HOME" if sys.platform == "darwin" else "XDG_STATE_HOME"] = str(home)
        environment = inherited | {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"} | variables
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, sys.executable, "-m", "knock", *arguments],
            stdin=side, stdout=side, stderr=side, start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(side)
        self._shown = self.raw = ""

    def see(self, pattern: str) -> str:
        """Wait for a pattern in the output; return the output up to its end, without escape sequences."""
        start = time.monotonic()
        while not (found := re.search(pattern, plain := STEERING.sub("", self._shown))):
            assert time.monotonic() - start < PATIENCE, f"no {pattern!r} in {self._shown!r}"
            assert self._process.poll() is None, f"ended with {self._shown!r}"
            self._read()
        self._shown = plain[found.end() :]
        return plain[: found.end()]

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode("utf-8", "surrogateescape"))

    def enter(self, line: str, pattern: str) -> str:
        """Type a line; wait for the pattern and then the next prompt."""
        self.type(line + "\r")
        return self.see(rf"(?s){pattern}.*?(?<=\n)>")

    def exit_code(self) -> int:
        """Wait for the program to exit."""
        start = time.monotonic()
        while self._process.poll() is None:
            assert time.monotonic() - start < PATIENCE, f"still running, after {self._shown!r}"
            self._read()
        return self._process.returncode

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    @property
    def modes(self) -> list[Any]:
        """Terminal modes."""
        modes: list[Any] = termios.tcgetattr(self._main)[:4]
        return modes

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)
        self._home.cleanup()

    def _read(self) -> None:
        if not select.select([self._main], [], [], 0.1)[0]:
            return
        try:
            content = os.read(self._main, 65536).decode("utf-8", "replace")
        except OSError:  # the other side is closed
            content = ""
        self._shown += content
        self.raw += content
