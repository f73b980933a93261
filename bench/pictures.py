"""Draw the documentation's pictures of what knock shows in a terminal and in a browser.

    python -m bench.pictures

Needs a POSIX system, pyte, Matplotlib and Chromium. Without Chromium, the picture of the page is left unchanged.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.extras import needed

with needed(__name__):
    from bench.report import PICTURES
    from bench.terminal_picture import Terminal

KNOCK = [sys.executable, "-P", "-m", "knock"]  # -P: a folder named knock in the working directory is not the package
TEXT = "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
MODEL = "shakespeare-small"
DATA = Path(__file__).parent.parent / "training" / "data"


def repl(folder: Path) -> None:
    """Draw a session: a prompt, another sampling preset, the same prompt again as a heat map."""
    terminal = Terminal(KNOCK, 80, 40, {"XDG_STATE_HOME": str(folder), "HOME": str(folder)})
    terminal.wait("/help lists the commands")
    for line, answer in (
        ("/len 90", "len 90"),
        ("/seed 7", "seed 7"),
        ("ROMEO:", "Mean temperature"),
        ("/sampling entropy", "sampling entropy"),
        ("/heat", "surprise in bits"),
        ("/stats", "stats off"),
        ("/again", "seed 8"),
    ):
        terminal.type(line + "\r")
        terminal.wait(answer)
    terminal.picture(PICTURES / "repl.svg")
    terminal.close()


def score(_folder: Path) -> None:
    """Draw the heat map of a text, and two models side by side."""
    command = [*KNOCK, "score", "sonnet.txt", "--heat", "--model", MODEL, "--model", "shakespeare-nano"]
    _shot(command, DATA, "score.svg", 80)


def inspect(folder: Path) -> None:
    """Draw what the heads of a model learned, in the terminal, as a plot and as a page."""
    _shot([*KNOCK, "inspect", "shakespeare-hybrid", "--text", "To be, or not"], folder, "inspect.svg", 100)
    plot, page = PICTURES / "inspect-plot.svg", folder / "romeo.html"
    given = ["--text", TEXT]
    subprocess.run([*KNOCK, "inspect", "shakespeare-hybrid", *given, "--plot", str(plot), "--force"], check=True)
    subprocess.run([*KNOCK, "inspect", "shakespeare-hybrid", *given, "--html", str(page)], check=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium: inspect-page.png is unchanged")
        return
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,940"]
    options.append("--virtual-time-budget=20000")  # milliseconds, in which the page reads the text
    picture = PICTURES / "inspect-page.png"
    subprocess.run([chromium, *options, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)


def _shot(command: list[str], folder: Path, name: str, columns: int) -> None:
    terminal = Terminal(command, columns, 60, {}, folder)
    terminal.wait(quiet=3)
    terminal.picture(PICTURES / name)
    terminal.close()


def main() -> None:
    """Draw every picture."""
    with tempfile.TemporaryDirectory() as folder:
        for draw in (repl, score, inspect):
            draw(Path(folder))


if __name__ == "__main__":
    main()
