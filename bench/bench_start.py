"""Benchmarks of starting: whole processes, the stages of one, compiling and loading.

Processes that are compared take turns, so that a slow period of the machine affects all of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.installed import Installed
from bench.turns import seconds, take_turns
from knock.choices import DEFAULT_PRECISION
from knock.engine.compiled_backend import CompiledBackend
from knock_kernels.cache import objects, store
from tests.cases import EXAMPLE, random_weights

STAGE = "stage: "  # prefix of a stage's name among the times of processes
PROMPT, LENGTH = "ROMEO:", 300


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """Yield a fresh environment, which shares the compiled kernels of the suite."""
    folder = Path(tempfile.mkdtemp(prefix="knock-bench-"))
    try:
        yield Installed(folder)
    except OSError as error:
        pytest.skip(f"an environment of links cannot be made here: {error}")
    finally:
        shutil.rmtree(folder)


def bench_processes(benchmark: BenchmarkFixture, installed: Installed) -> None:
    """Time whole processes from start to exit with compiled kernels, and the stages of one."""
    python, knock = installed.python, installed.knock
    commands = {
        "pass": [python, "-c", "pass"],
        "import numpy": [python, "-c", "import numpy"],
        "import numba": [python, "-c", "import numba"],
        "import knock": [python, "-c", "import knock"],
        "help": [knock, "--help"],
        "generate": [knock, "generate", PROMPT, "--length", str(LENGTH)],
        "generate on NumPy": [knock, "generate", PROMPT, "--length", str(LENGTH), "--backend", "numpy"],
    }

    def once() -> dict[str, float]:
        whole = {name: seconds(lambda command=command: _run(command, installed)) for name, command in commands.items()}
        return whole | {f"{STAGE}{name}": seconds for name, seconds in _stages(installed).items()}

    take_turns(benchmark, once)


def bench_first_run(benchmark: BenchmarkFixture, installed: Installed, tmp_path: Path) -> None:
    """Time the first run ever, while the kernels are compiled in the background."""

    def once() -> dict[str, float]:
        cache = Path(tempfile.mkdtemp(dir=tmp_path))
        started, seen, times = time.perf_counter(), 0, {}
        command = [installed.knock, "generate", PROMPT, "--length", str(LENGTH)]
        environment = os.environ | {"KNOCK_CACHE_DIR": str(cache)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, bufsize=0, env=environment, cwd=installed.folder
        ) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(4096):
                seen += len(piece)
                if seen > len(PROMPT):
                    times.setdefault("first text", time.perf_counter() - started)
            times["all text"] = time.perf_counter() - started
        times["exit"] = time.perf_counter() - started
        assert seen == len(PROMPT) + LENGTH
        _stop_compiler(cache)
        return times

    take_turns(benchmark, once)


def _stages(installed: Installed) -> dict[str, float]:
    """Return the seconds of each stage of `knock generate`, in one process."""
    command = [installed.python, "-c", STAGES]
    started = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=installed.folder)
    ended = time.time()
    moments = [(name, float(moment)) for name, moment in (line.split("\t") for line in done.stderr.splitlines())]
    before = [started, *(moment for _, moment in moments)]
    return {name: moment - then for (name, moment), then in zip([*moments, ("exit", ended)], before, strict=True)}


STAGES = f"""
import sys, time
moments = []
def done(name): moments.append((name, time.time()))
done("Python")
import gc
gc.set_threshold(100_000)
from knock.cli.main import build_parser
options = build_parser("generate").parse_args(["generate", {PROMPT!r}])
done("options")
import numpy
done("NumPy")
import knock.language_model
done("knock's modules")
import llvmlite.binding
done("llvmlite")
from knock_kernels.cache import objects
from knock_kernels.cache import store
objects.name()
done("find the kernels")
store.entry_points()
done("load the kernels")
model = knock.language_model.load(options.model)
done("read the weights")
model.model.engine.settle(steps={LENGTH})
done("pack the weights")
for piece in model.stream({PROMPT!r}, max_new_tokens={LENGTH}): sys.stdout.write(piece)
done("generate")
print(*(f"{{name}}\\t{{moment}}" for name, moment in moments), sep="\\n", file=sys.stderr)
gc.freeze()
"""


def bench_compile(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Compile and cache every kernel, in its own process."""
    command = [sys.executable, "-m", "knock", "warmup"]

    def run() -> None:
        environment = os.environ | {"KNOCK_CACHE_DIR": tempfile.mkdtemp(dir=tmp_path)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    benchmark.extra_info.update(unit="times", count=1)
    benchmark.pedantic(run, rounds=3)


def bench_load(benchmark: BenchmarkFixture) -> None:
    """Read the cached object, verify it and load it."""
    kept = objects.find()
    assert kept is not None
    benchmark.extra_info.update(unit="times", count=1)
    benchmark(lambda: store.load(objects.read(kept.path)))


def bench_pack(benchmark: BenchmarkFixture) -> None:
    """Pack a model of the example shape."""
    weights, kernels = random_weights(EXAMPLE, 0, scale=0.1), store.entry_points()
    benchmark.extra_info.update(unit="models", count=1)
    benchmark(CompiledBackend, weights, kernels, DEFAULT_PRECISION)


def _run(command: list[str], installed: Installed) -> None:
    subprocess.run(command, check=True, cwd=installed.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _stop_compiler(cache: Path) -> None:
    """Stop the background compiler, which would slow down the next measurement."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for log in cache.glob("*.log"):
            words = log.read_text(encoding="utf-8").split()  # process NUMBER compiles ...
            if len(words) > 1:
                os.kill(int(words[1]), signal.SIGTERM)
                return
        time.sleep(0.01)
