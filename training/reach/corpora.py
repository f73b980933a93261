"""The corpora of the trial: plays, Python sources, a log, molecules."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

LENGTH = 1_115_394  # characters, those of Tiny Shakespeare

_SERVICES = ("auth", "billing", "catalog", "gateway", "mailer", "orders", "search", "session")
_PATHS = ("/cart", "/items", "/login", "/orders", "/profile", "/reports", "/search", "/status")
_WORDS = ("accepted", "cached", "completed", "delayed", "expired", "queued", "rejected", "retried", "started", "sent")
_OPEN = 6  # requests in progress at a time
_ENDS = 0.2  # share of the lines that end their request


def log(seed: int = 0) -> str:
    """Return the log of a service whose lines repeat the identifiers of the requests in progress.

    An identifier is random when its request starts and known to whoever remembers the earlier lines.
    """
    rng = np.random.default_rng(seed)

    def request() -> tuple[str, str, str, str]:
        user = f"user{rng.integers(100_000):05d}"
        address = ".".join(map(str, rng.integers(1, 255, size=4)))
        return f"{rng.integers(2**32):08x}", user, address, str(rng.choice(_PATHS))

    lines, size, clock, running = [], 0, 0, [request() for _ in range(_OPEN)]
    while size < LENGTH:
        clock += int(rng.integers(1, 900))
        place = int(rng.integers(_OPEN))
        name, user, address, path = running[place]
        stamp = f"{clock // 3_600_000 % 24:02d}:{clock // 60_000 % 60:02d}:{clock // 1000 % 60:02d}.{clock % 1000:03d}"
        line = f"{stamp} {rng.choice(_SERVICES)} req={name} {user} {address} {path} {rng.choice(_WORDS)}\n"
        lines.append(line)
        size += len(line)
        if rng.random() < _ENDS:
            running[place] = request()
    return "".join(lines)[:LENGTH]


def python_sources() -> str:
    """Return modules of Python's standard library, one after the other, in ASCII."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]
    ascii_only = [text for text in texts if text.isascii()]
    # Alphabetical order would put relatives side by side and hold out the modules from t to z.
    order = np.random.default_rng(0).permutation(len(ascii_only))
    return "".join(ascii_only[each] for each in order)[:LENGTH]


def corpora(shakespeare: str | None, molecules: str | None) -> Mapping[str, Callable[[], str]]:
    """Return what makes each corpus, by name.

    Args:
        shakespeare: path of tinyshakespeare.txt; None leaves it out.
        molecules: path of the training molecules of MOSES, one in a line; None leaves them out.
    """

    def reader(path: str) -> Callable[[], str]:
        return lambda: Path(path).read_text(encoding="utf-8")[:LENGTH]

    given = {"shakespeare": shakespeare, "molecules": molecules}
    made: dict[str, Callable[[], str]] = {"python": python_sources, "log": log}
    return made | {name: reader(path) for name, path in given.items() if path is not None}
