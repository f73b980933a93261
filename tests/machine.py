"""A machine on which knock has never run: folders of its own, and a quick stand-in for the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from knock_kernels.cache import objects, store

STAND_IN = Path(__file__).parent / "stand_in"
KNOCK = [sys.executable, "-m", "knock"]
PATHS = [path for path in (os.environ.get("PYTHONPATH"),) if path]


class Machine:
    """A machine on which knock has never run: empty cache and temporary folders."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.temporary, self.notes = folder / "cache", folder / "temporary", folder / "notes"
        for each in (self.temporary, self.notes):
            each.mkdir()
        (kept,) = [path for path in [store.kept()] if path]
        self.environment = {
            **os.environ,
            "KNOCK_CACHE_DIR": str(self.cache),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join([str(STAND_IN), *PATHS]),
            "STAND_IN_FOLDER": str(self.notes),
            "STAND_IN_OBJECT": str(kept),
        }

    def start(self, *arguments: str, **more: object) -> subprocess.Popen[str]:
        environment = self.environment | {name: str(value) for name, value in more.items()}
        return subprocess.Popen(
            [*KNOCK, *arguments], text=True, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, **more: object) -> tuple[int, str, str]:
        """Run a command; return exit code, standard output and standard error."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def compile(self, **more: object) -> int:
        """Run the compiler's process in the foreground and return its exit code."""
        self.cache.mkdir(mode=0o700)
        code = f"import sys; from knock_kernels.cache.compiler import main; sys.exit(main({str(self.cache)!r}, False))"
        environment = self.environment | {name: str(value) for name, value in more.items()}
        return subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode

    def backend(self) -> str:
        """Return the backend that runs a model now."""
        code = (
            "from knock import load; m = load('shakespeare-hybrid'); m.generate('A', max_new_tokens=1);"
            "print(m.model.engine.backend)"
        )
        return subprocess.check_output([sys.executable, "-c", code], env=self.environment, text=True).strip()

    @property
    def compilations(self) -> int:
        """Return the number of compilations that were started."""
        file = self.notes / "compilations"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def objects(self, folder: Path | None = None) -> list[Path]:
        """Return the cached objects, each of which must be valid."""
        found = list((folder or self.cache).glob(f"*{objects.SUFFIX}"))
        for path in found:
            objects.read(path)
        return found

    def settle(self) -> None:
        """Wait until no process compiles."""
        from filelock import FileLock

        time.sleep(0.3)  # a process may not have the lock yet
        for folder in (self.cache, *self.temporary.glob("knock-*")):
            if folder.is_dir():
                with FileLock(folder / "lock", timeout=30):
                    pass

    def until(self, count: int) -> None:
        """Wait until that many compilations have started and ended."""
        deadline = time.monotonic() + 30
        while self.compilations < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.compilations == count
        self.settle()
