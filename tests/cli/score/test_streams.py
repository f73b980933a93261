"""Tests of the streams of `knock score`: standard input, pipes, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from knock.cli.score import output, pieces
from knock.files import text as text_module
from tests.cli.score.texts import LONG, ROMEO, Input
from tests.cli.test_main import KNOCK, process, run


def test_standard_input(text: Path) -> None:
    from_file, from_input = process("score", str(text)), process("score", "-", stdin=b"\xef\xbb\xbf" + ROMEO.encode())
    assert (from_input.returncode, from_input.stdout, from_input.stderr) == (0, from_file.stdout, b"")
    empty = process("score", "-")
    assert (empty.returncode, empty.stdout) == (1, b"")
    assert empty.stderr == b"knock: error: the text is empty; there is nothing to score\n"
    broken = process("score", "-", stdin=b"ROM\xff")
    assert broken.stderr.startswith(b"knock: error: standard input is not UTF-8 text: byte 0xff at offset 3")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell's pipes")
@pytest.mark.parametrize("form", ["--chars", "--heat"])
def test_broken_pipe(tmp_path: Path, models: list[str], form: str) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG * 300, encoding="utf-8")
    writer = subprocess.Popen(
        [*KNOCK, "score", str(path), "--model", models[0], form], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"FORCE_COLOR": "1"},
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert writer.stdout.read(5)
    writer.stdout.close()
    assert writer.wait(60) == 0
    progress = rb"scored \d+%(, \d+ s left)?"  # which a slow machine shows
    assert re.sub(progress, b"", writer.stderr.read()).strip() == b""
    writer.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and pipes")
def test_interrupted(tmp_path: Path, models: list[str]) -> None:
    pipe = tmp_path / "endless"
    os.mkfifo(pipe)
    running = subprocess.Popen(
        [*KNOCK, "score", str(pipe), "--model", models[0], "--chars"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def feed() -> None:
        try:
            with pipe.open("w", encoding="utf-8") as file:
                while True:
                    file.write(LONG)
        except OSError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert running.stdout is not None
    first = running.stdout.read(40)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    feeder.join()
    assert running.returncode == 130
    assert errors == b""
    assert first.startswith(b'{"model"')


def test_standard_input_from_a_file_has_a_size(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"abc" * 100)
    chunks, size, _ = pieces.text_at(str(path))[:3]
    assert (size, "".join(chunks)) == (300, "abc" * 100)
    code = "from knock.cli.score.pieces import text_at; chunks, *sizes, _ = text_at('-'); "
    code += "print(sizes, len(''.join(chunks)))"
    with path.open("rb") as file:
        redirected = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, check=True)
    assert redirected.stdout.split() == [b"[300,", b"300]", b"300"]
    piped = subprocess.run([sys.executable, "-c", code], input=b"abc", capture_output=True, check=True)
    assert piped.stdout.split() == [b"[0,", b"3]", b"3"]


def test_standard_input_is_read_in_pieces(
    capsys: pytest.CaptureFixture[str], models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of an input of any length begins long before its end, and memory does not grow with it."""
    monkeypatch.setattr(text_module, "_CHUNK", 300)
    stdin = Input(LONG.encode() * 100)
    monkeypatch.setattr(sys, "stdin", stdin)
    offsets = list[int]()
    monkeypatch.setattr(output, "write", lambda text: offsets.append(stdin.tell()))
    assert run(capsys, "score", "-", "--model", models[0], "--chars")[0] == 0
    assert offsets[0] < 10_000
    assert offsets[-1] == 90_000
