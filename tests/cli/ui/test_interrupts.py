"""Tests of signals as requests to stop: no work is lost, and the exit code identifies the signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from knock.cli.main import main
from knock.cli.ui import interrupts
from knock.cli.ui.interrupts import Interrupts
from knock.files.checkpoint import read_checkpoint
from knock_training.state import read_state, state_path
from tests.cli.test_main import CORPUS, FAST, KNOCK

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
ENDLESS = [*FAST, "--steps", "1000000", "--eval-interval", "1000000"]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number, _ in STOPS}
    interrupts.forget()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts.forget()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start a command in a process that ignores no signals, unlike a background job."""
    return running([*KNOCK, *arguments])


def running(command: list[str]) -> subprocess.Popen[str]:
    for number, _ in STOPS:
        signal.signal(number, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], said: str) -> None:
    assert process.stderr is not None
    while said not in process.stderr.readline():
        assert process.poll() is None


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_training_saves_progress_since_the_last_evaluation(corpus: Path, number: int, code: int) -> None:
    model = corpus.with_name("m.safetensors")
    program = (
        "import sys, knock_training.run as run\n"
        "step = run.training_step\n"
        "run.training_step = lambda *given: print('Stepping', file=sys.stderr, flush=True) or step(*given)\n"
        "from knock.cli.main import script\n"
        "sys.exit(script())"
    )
    process = running([sys.executable, "-c", program, "train", str(corpus), "--out", str(model), *ENDLESS])
    for _ in range(5):
        wait_for(process, "Stepping")
    process.send_signal(number)
    process.send_signal(number)  # as timeout and torchrun do
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "pass --resume to continue" in err
    _, saved = read_state(state_path(model))
    assert saved["numbers"]["step"] > 1
    assert read_checkpoint(model).training["ended"] == "interrupted"
    assert ("evaluation" in read_checkpoint(model).training) == (number == signal.SIGINT)


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_sampling_writes_finished_rows(tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "rows.jsonl"
    process = started("sample", "A", "--count", "1000000", "--length", "100", "--out", str(out), "--seed", "1")
    while not out.exists() or not out.stat().st_size:
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert f"interrupted; {len(rows):,} rows are in" in err
    assert [row["index"] for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize("number", [number for number, _ in STOPS])
def test_second_signal_ends_training_at_once(corpus: Path, number: int) -> None:
    """Even during a step that never ends."""
    model = corpus.with_name("m.safetensors")
    code = (
        "import sys, time, knock_training.run\n"
        "def training_step(*_):\n"
        "    print('Stepping', file=sys.stderr, flush=True)\n"
        "    time.sleep(1000)\n"
        "knock_training.run.training_step = training_step\n"
        "from knock.cli.main import script\n"
        "sys.exit(script())"
    )
    process = running([sys.executable, "-c", code, "train", str(corpus), "--out", str(model), *ENDLESS])
    wait_for(process, "Stepping")
    process.send_signal(number)
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (128 + number, False)
    assert not model.exists()


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_other_commands_exit_with_the_same_codes(number: int, code: int) -> None:
    process = started("generate", "ROMEO:", "--length", "10000000")
    assert process.stdout is not None
    assert process.stdout.read(10).startswith("ROMEO:")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")


def test_training_is_saved_when_the_terminal_closes(corpus: Path) -> None:
    pty = pytest.importorskip("pty")
    model = corpus.with_name("m.safetensors")
    outer, inner = pty.openpty()
    for number, _ in STOPS:
        signal.signal(number, signal.SIG_DFL)
    code = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"  # make it the controlling terminal
        "from knock.cli.main import script; sys.exit(script())"
    )
    command = [sys.executable, "-c", code, "train", str(corpus), "--out", str(model), *ENDLESS]
    process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
    os.close(inner)
    seen = b""
    while b"/1,000,000" not in seen:
        seen += os.read(outer, 1000)
    os.close(outer)  # sends SIGHUP and makes every write to the terminal fail
    assert process.wait(timeout=60) == 129
    assert read_state(state_path(model))[1]["numbers"]["step"] >= 1
    assert read_checkpoint(model).training["ended"] == "interrupted"


def test_ignored_signals_stay_ignored() -> None:
    """As SIGHUP is after nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts() as asked:
        signal.raise_signal(signal.SIGHUP)
        assert not asked.asked
    interrupts.raise_on_signals()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_first_signal_is_deferred_and_the_second_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: now)
    with Interrupts() as asked:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # a duplicate
        assert asked.asked
        with pytest.raises(KeyboardInterrupt):
            asked.check()
        now = 1.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
    assert interrupts.exit_code() == 129
    with Interrupts() as asked, asked.idle(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interrupts.exit_code() == 130
    assert not interrupts.is_terminated()


def test_exit_code_does_not_leak_into_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr("knock.cli.info.run", interrupted)
    assert main(["info"]) == 130
