"""Run a program in a pseudo-terminal and draw its screen as SVG."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte
from wcwidth import wcwidth

CELL, LINE, MARGIN = 8.4, 18, 12  # pixels
PAPER, INK = "#ffffff", "#1b1b1b"
# The colours that pyte names, chosen to be legible on white.
COLORS = {
    "black": "#1b1b1b", "red": "#b3261e", "green": "#2e7d32", "brown": "#8a6d00", "blue": "#0b57d0",
    "magenta": "#8e24aa", "cyan": "#00707f", "white": "#e8e8e8", "brightblack": "#6e6e6e", "brightred": "#d33b31",
    "brightgreen": "#388e3c", "brightbrown": "#a88600", "brightblue": "#3b78e7", "brightmagenta": "#a142bb",
    "brightcyan": "#008c9e", "brightwhite": "#ffffff",
}  # fmt: skip


class Terminal:
    """A program that runs in a pseudo-terminal.

    Args:
        command: the program with its arguments.
        columns: width of the terminal, in cells.
        lines: height of the terminal, in cells.
        environment: variables to add to those of this process.
        folder: working directory; None for the current one.
    """

    def __init__(
        self, command: Sequence[str], columns: int, lines: int, environment: dict[str, str], folder: Path | None = None
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=folder,
            env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | environment,
        )
        os.close(slave)

    def type(self, keys: str) -> None:
        """Send keys to the program."""
        os.write(self._master, keys.encode())

    def wait(self, text: str = "", seconds: float = 60, quiet: float = 1.0) -> None:
        """Wait until `text` is on the screen and output has paused for `quiet` seconds, or the program has ended.

        Raises:
            TimeoutError: if that takes longer than `seconds`.
            RuntimeError: if the program ended with an error.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not select.select([self._master], [], [], quiet)[0]:
                if text in "\n".join(self._screen.display):
                    return
                continue
            try:
                content = os.read(self._master, 65536)
            except OSError:  # on Linux, raised once the program has ended
                content = b""
            if not content:
                if code := self._process.wait():
                    screen = "\n".join(self._screen.display).rstrip()
                    raise RuntimeError(f"{self._process.args!r} ended with exit code {code}; the screen:\n{screen}")
                return
            self._stream.feed(content)
            if b"\x1b[6n" in content:  # the program requests the position of the cursor
                cursor = self._screen.cursor
                os.write(self._master, f"\x1b[{cursor.y + 1};{cursor.x + 1}R".encode())
        raise TimeoutError(
            f"{text!r} did not appear within {seconds} s; the screen:\n" + "\n".join(self._screen.display)
        )

    def close(self) -> None:
        """Terminate the program."""
        self._process.terminate()
        self._process.wait()
        os.close(self._master)

    def picture(self, path: Path) -> None:
        """Write the screen, down to its last non-empty line, to an SVG file."""
        used = max((y for y, line in enumerate(self._screen.display) if line.strip()), default=0) + 1
        width = self._screen.columns * CELL + 2 * MARGIN
        height = used * LINE + 2 * MARGIN
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">',
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{PAPER}" stroke="#d0d0d0"/>',
            '<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">',
            *(part for y in range(used) for part in self._line(y)),
            "</g>",
            "</svg>",
        ]
        path.write_text("\n".join(parts) + "\n", encoding="utf-8")

    def _line(self, y: int) -> list[str]:
        row = self._screen.buffer[y]
        cells = [(x, row[x]) for x in range(self._screen.columns) if row[x].data]
        parts = []
        for (paper, ink, bold), group in groupby(cells, key=lambda cell: _style(cell[1])):
            run = list(group)
            text = "".join(char.data for _, char in run)
            x, length = MARGIN + run[0][0] * CELL, (run[-1][0] - run[0][0] + 1) * CELL
            top = MARGIN + y * LINE
            if paper != PAPER:
                parts.append(f'<rect x="{x:g}" y="{top:g}" width="{length:g}" height="{LINE}" fill="{paper}"/>')
            if text.strip():
                x += (len(text) - len(text.lstrip())) * CELL
                text = text.strip().replace(" ", "\xa0")  # viewers collapse ordinary spaces
                length = sum(wcwidth(char) for char in text) * CELL
                weight = ' font-weight="bold"' if bold else ""
                place = f'x="{x:g}" y="{top + 13:g}" textLength="{length:g}"'
                parts.append(f'<text {place} fill="{ink}"{weight}>{escape(text)}</text>')
        return parts


def _style(char: Any) -> tuple[str, str, bool]:
    paper, ink = _color(char.bg, PAPER), _color(char.fg, INK)
    return (ink, paper, char.bold) if char.reverse else (paper, ink, char.bold)


def _color(name: str, default: str) -> str:
    return default if name == "default" else COLORS.get(name, f"#{name}")
