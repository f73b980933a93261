"""Tests of `knock score`: scores as a table, as JSON and as a heat map."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import LanguageModel, ReweightGPT, Vocab, load
from knock.choices import Unknown
from knock.cli.main import main
from knock.cli.score import output, pieces
from knock.cli.ui import progress
from knock.errors import VocabError
from knock.files import text as text_module
from knock.files.checkpoint import write_checkpoint
from knock.generation import evaluation
from knock.generation import scoring as scorer
from knock.generation.scoring import Scorer
from tests import naive
from tests.cases import EVERY, SMALL, float64, random_weights
from tests.cli.test_main import KNOCK, process, run

ROMEO = "ROMEO:\nBut, soft! what light through yonder window breaks?\n"
LETTERS = "\nabcdefghij"


def small(name: str, **options: str) -> LanguageModel:
    model = ReweightGPT.from_weights(random_weights(EVERY[name], 0), **options)
    return LanguageModel(model, Vocab(LETTERS))


def scorer_of(name: str, model: LanguageModel, unknown: Unknown) -> Scorer:
    return Scorer(name, model.model.engine, model.vocab, unknown)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "romeo.txt"
    path.write_bytes(ROMEO.encode())
    return path


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "a.npz", tmp_path / "b.safetensors"]
    write_checkpoint(paths[0], random_weights(SMALL["hybrid-relative"], 0), Vocab(LETTERS))
    write_checkpoint(paths[1], random_weights(SMALL["content-absolute"], 1), Vocab(LETTERS[:-1] + "é"))
    return [str(path) for path in paths]


def table(out: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in out.splitlines()]


@pytest.mark.parametrize("name", EVERY)
def test_surprise_matches_the_naive_model(name: str) -> None:
    text = "badge\nface\nchief"
    weights = random_weights(EVERY[name], 0)
    tokens = [LETTERS.index(char) for char in "\n" + text]
    rows = naive.forward(tokens[:-1], float64(weights), EVERY[name])
    expected = [-math.log2(naive.softmax(row)[token]) for row, token in zip(rows, tokens[1:], strict=True)]
    reader = scorer_of(name, small(name), "error")
    assert reader.feed(text) == pytest.approx(expected, abs=1e-4)
    assert reader.loss.bits == pytest.approx(sum(expected) / len(text), abs=1e-4)
    assert reader.loss.nats == pytest.approx(reader.loss.bits * 0.6931472)
    assert reader.loss.perplexity == pytest.approx(2**reader.loss.bits)
    assert reader.chars == len(text)


LONG = "".join(np.random.default_rng(0).choice(list(LETTERS), 900))
WHOLE = {name: 0.0 - small(name, backend="compiled").score(LONG).log_probs / math.log(2) for name in SMALL}


@pytest.mark.parametrize("name", SMALL)
@given(cuts=st.lists(st.integers(0, len(LONG)), max_size=8), span=st.integers(1, 300))
def test_pieces_and_threads_give_identical_scores(name: str, cuts: list[int], span: int) -> None:
    reader = scorer_of(name, small(name, backend="compiled"), "error")
    ends = [0, *sorted(cuts), len(LONG)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "_SPAN", span)
        pieces = [reader.feed(LONG[start:end]) for start, end in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(pieces), WHOLE[name])
    assert reader.loss.bits == pytest.approx(WHOLE[name].mean(), rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_pieces_on_numpy(name: str) -> None:
    reader = scorer_of(name, small(name, backend="numpy"), "error")
    pieces = [reader.feed(LONG[start : start + 7]) for start in range(0, len(LONG), 7)]
    expected = small(name, backend="numpy").score(LONG).log_probs / -math.log(2)
    assert np.concatenate(pieces) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lowercase", [False, True])
def test_unknown_characters(lowercase: bool) -> None:
    model = small("hybrid-relative", backend="compiled")
    model = LanguageModel(model.model, Vocab(LETTERS, lowercase=lowercase))
    text = "badxge\nfaé" + ("C" if lowercase else "c") + "ex"
    plain = 0.0 - model.score("badge\nface").log_probs / math.log(2)
    reader = scorer_of("m", model, "skip")
    result = np.concatenate([reader.feed(part) for part in ("", text[:3], "é", text[3:8], text[8:])])
    assert np.array_equal(result[~np.isnan(result)], plain)
    assert np.flatnonzero(np.isnan(result)).tolist() == [3, 4, 10, 13]
    assert reader.unknown_chars == {"x": 2, "é": 2}
    assert reader.chars == 10
    replacing = scorer_of("m", model, "replace")
    result = replacing.feed(text)
    assert np.array_equal(result, 0.0 - model.score(text, unknown="replace").log_probs / math.log(2))
    assert replacing.unknown_chars == {"x": 2, "é": 1}
    strict = scorer_of("m", model, "error")
    strict.feed("bad\n")
    with pytest.raises(VocabError, match=r"'x' \(U\+0078\) at offset 7; 'm' knows 11 characters"):
        strict.feed("badx")


def test_table_matches_the_library(capsys: pytest.CaptureFixture[str], text: Path, default: LanguageModel) -> None:
    code, out, err = run(capsys, "score", str(text))
    assert (code, err) == (0, "")
    head, row = table(out)
    assert head == ["model", "chars", "nats/char", "bits/char", "perplexity/char"]
    expected = default.score(ROMEO)
    assert row[:2] == ["shakespeare-small", str(len(ROMEO))]
    numbers = [expected.nats_per_char, expected.bits_per_char, expected.perplexity]
    assert [float(cell) for cell in row[2:]] == pytest.approx(numbers, abs=6e-5)


def test_several_models_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text("badge jé\n", encoding="utf-8")
    arguments = ["score", str(path), "--model", models[0], "--model", models[1], "--unknown", "skip"]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert [row[:2] for row in table(out)[1:]] == [[models[0], "7"], [models[1], "7"]]
    assert len({len(line) for line in out.splitlines()}) == 1
    assert err == (
        f"knock: skipped 2 characters that {models[0]!r} does not know: ' ' 1, 'é' 1\n"
        f"knock: skipped 2 characters that {models[1]!r} does not know: ' ' 1, 'j' 1\n"
    )
    rows = [json.loads(line) for line in run(capsys, *arguments, "--chars")[1].splitlines()]
    assert [(row["index"], row["char"], models.index(row["model"])) for row in rows] == [
        (index, char, model) for index, char in enumerate("badge jé\n") for model in (0, 1)
        if char != " " and (char, model) not in {("é", 0), ("j", 1)}
    ]  # fmt: skip
    for summary in map(json.loads, run(capsys, *arguments, "--json")[1].splitlines()):
        bits = [row["bits"] for row in rows if row["model"] == summary["model"]]
        assert summary["characters"] == len(bits) == 7
        assert summary["bits_per_char"] == pytest.approx(np.mean(bits), abs=1e-6)
        assert summary["perplexity"] == pytest.approx(2 ** summary["bits_per_char"])
        assert summary["unknown"] == 2
        assert len(summary["digest"]) == 64


def test_replaced_characters_are_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abc" + "ABCDEFGHIJKLM" + "\x1b", encoding="utf-8")
    code, out, err = run(capsys, "score", str(path), "--model", models[0], "--unknown", "replace")
    assert code == 0
    assert table(out)[1][1] == "17"
    assert err.endswith("'I' 1, 'J' 1 and 4 more\n")
    path.write_text("abc\x1b", encoding="utf-8")
    _, _, err = run(capsys, "score", str(path), "--model", models[0], "--unknown", "replace")
    assert err == f"knock: replaced 1 character that {models[0]!r} does not know: '\\x1b' 1\n"


def test_a_long_text_is_scored_in_pieces(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG[:-1] + "b", encoding="utf-8")
    arguments = ["score", str(path), "--model", models[0]]
    whole = [run(capsys, *arguments, *form) for form in ([], ["--chars"], ["--heat"])]
    assert [json.loads(line)["index"] for line in whole[1][1].splitlines()] == list(range(len(LONG)))
    fed = []
    monkeypatch.setattr(pieces, "_PIECE", 100)
    monkeypatch.setattr(
        Scorer, "feed", lambda self, text, *more, feed=Scorer.feed: (fed.append(len(text)), feed(self, text, *more))[1]
    )
    assert [run(capsys, *arguments, *form) for form in ([], ["--chars"], ["--heat"])] == whole
    assert fed == [100] * 27


def test_heat_map_without_colours(capsys: pytest.CaptureFixture[str], text: Path, default: LanguageModel) -> None:
    code, out, err = run(capsys, "score", str(text), "--heat")
    assert (code, err) == (0, "")
    note, blank, *rows, blank_too, head, _ = out.splitlines()
    assert (blank, blank_too) == ("", "")
    assert "whole bits" in note
    assert head.startswith("model")
    assert rows[::2] == [f"{line}↵" for line in ROMEO.splitlines()]
    bits = default.score(ROMEO).log_probs / -math.log(2)
    assert "".join(rows[1::2]) == "".join(str(min(9, int(each))) for each in bits)


def test_heat_map_of_several_models(capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text("badge jé\nab\n", encoding="utf-8")
    arguments = ["score", str(path), "--model", models[0], "--model", models[1], "--unknown", "skip", "--heat"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    _, first, second, blank, *rows = out.splitlines()[:10]
    assert [first, second, blank] == [f"1 {models[0]}", f"2 {models[1]}", ""]
    assert rows[::3] == ["  badge jé↵", "  ab↵"]
    assert [re.sub(r"\d", "n", row[2:]) for row in rows[1:3]] == ["nnnnn?n?n", "nnnnn??nn"]
    assert [row[:2] for row in rows] == ["  ", "1 ", "2 "] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="colours there depend on the console")
def test_heat_map_in_colours(text: Path, default: LanguageModel) -> None:
    from rich.color import Color

    from knock.cli.ui.heat import STEPS

    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": "30"}
    done = process("score", str(text), "--heat", env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    colours = {Color.parse(paper).triplet: start for start, paper, _ in STEPS[1:]}
    coloured = done.stdout.decode().split("\n\n")[1]
    shown, starts = "", []
    for codes, painted, bare in re.findall(r"\x1b\[38;2;[\d;]+48;2;([\d;]+)m(.*?)\x1b\[0m|([^\x1b\n]+)", coloured):
        shown += painted + bare
        starts += [colours[tuple(map(int, codes.split(";")))] if codes else 0.0] * len(painted + bare)
    assert shown == ROMEO.replace("\n", "↵")
    bits = default.score(ROMEO).log_probs / -math.log(2)
    assert starts == [max(start for start, _, _ in STEPS if start <= each) for each in bits]
    plain = re.sub(r"\x1b\[[\d;]*m", "", done.stdout.decode()).split("\n\n")[1]
    assert max(map(len, plain.splitlines())) <= 30
    plain = process("score", str(text), "--heat", env=environment | {"NO_COLOR": "1"})
    assert b"\x1b" not in plain.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "FILE"),
        (["nowhere.txt"], 1, "cannot read 'nowhere.txt': no such file"),
        (["."], 1, "cannot read '.'"),
        (["a\0b"], 1, "cannot read"),
        (["empty.txt"], 1, "the text is empty"),
        (["bom.txt"], 1, "the text is empty"),
        (["binary.txt"], 1, "'binary.txt' is not UTF-8 text: byte 0xff at offset 3"),
        (["cafe.txt"], 1, "unknown character 'é' (U+00E9) at offset 3; 'shakespeare-small' knows"),
        (["cafe.txt", "--chars"], 1, "unknown character 'é'"),
        (["accents.txt", "--unknown", "skip"], 1, "no character that 'shakespeare-small' knows"),
        (["cafe.txt", "--model", "nowhere"], 1, "neither a file nor a shipped model"),
        (["cafe.txt", "--model", "empty.txt"], 1, "not a valid knock model file"),
        (["cafe.txt", "--unknown", "x"], 2, "invalid choice: 'x'"),
        (["cafe.txt", "--heat", "--json"], 2, "not allowed with argument"),
        (["cafe.txt", "cafe.txt"], 2, "2 files are a corpus, which --held-out measures; give one FILE"),
        (["cafe.txt", "--held-out", "--heat"], 2, "--held-out measures losses; drop --heat"),
        (["cafe.txt", "--held-out", "--chars"], 2, "drop --chars"),
        (["--held-out", "cafe.txt", "-"], 2, "- (standard input) must be the only FILE"),
        (["--held-out", "nowhere.txt"], 1, "cannot read 'nowhere.txt': no such file"),
        (["--held-out", "empty.txt"], 1, "corpus 'empty.txt' is empty"),
        (["--held-out", "cafe.txt"], 1, "unknown character 'é' (U+00E9) at offset 3 of 'cafe.txt'"),
        (["--held-out", "cafe.txt", "--unknown", "skip"], 1, "at least 2 characters, got 0; use a longer text"),
    ],
)
def test_invalid_input_is_reported_on_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "empty": b"", "bom": b"\xef\xbb\xbf", "binary": b"abc\xff\0", "cafe": "café".encode(), "accents": "é".encode(),
    }.items():  # fmt: skip
        Path(f"{name}.txt").write_bytes(content)
    exit_code, out, err = run(capsys, "score", *arguments)
    assert (exit_code, out) == (code, "")
    assert says in err
    assert err.startswith("knock")
    assert err.count("\n") == 1


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
    assert writer.stderr.read() == b""
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


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show progress at once, as on a terminal."""
    monkeypatch.setattr(progress, "is_live", lambda: True)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)


def lines_of(err: str) -> list[str]:
    """The lines that overwrote each other, without their times; the last one must have been cleared."""
    start, *shown, cleared, end = err.split("\r")
    assert (start, cleared.strip(), end) == ("", "", "")
    assert len(cleared) == len(shown[-1])
    return [re.sub(r"\d+ s", "n s", line.rstrip()) for line in shown if line.strip()]


def of_percentages(*shares: str) -> list[str]:
    return [f"scored {share}%, n s left" for share in shares]


@pytest.mark.parametrize("form", [[], ["--json"], ["--chars"], ["--heat"]])
def test_progress_is_shown_and_cleared_on_a_terminal(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    models: list[str],
    monkeypatch: pytest.MonkeyPatch,
    live: None,
    form: list[str],
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG, encoding="utf-8")
    monkeypatch.setattr(pieces, "_PIECE", 300)
    monkeypatch.setattr(scorer, "_SPAN", 150)
    arguments = ["score", str(path), "--model", models[0], *form]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert lines_of(err) == of_percentages("17", "33", "50", "67", "83", "100")
    monkeypatch.setattr(progress, "_PATIENCE", 60.0)
    assert run(capsys, *arguments) == (0, out, "")  # too fast to show progress


def test_progress_with_several_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str], live: None
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(LONG.replace("j", "c"), encoding="utf-8")
    _, _, err = run(capsys, "score", str(path), "--model", models[0], "--model", models[1])
    assert lines_of(err) == of_percentages("50", "100")


@pytest.mark.parametrize("form", ["--chars", "--heat"])
def test_progress_never_shares_a_line_with_the_output(
    tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch, live: None, form: str
) -> None:
    """On a terminal that shows both, the line is cleared before anything is written."""
    path = tmp_path / "long.txt"
    path.write_text("abc\n" * 250, encoding="utf-8")
    monkeypatch.setattr(pieces, "_PIECE", 300)
    screen = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", screen)
        assert main(["score", str(path), "--model", models[0], form]) == 0
    assert "scored 30%" in screen.getvalue()
    for line in screen.getvalue().split("\n"):
        *overwritten, last = line.split("\r")
        assert "scored" not in last
        assert overwritten == [] or overwritten[-1].strip() == ""


class Input(io.BytesIO):
    """Standard input without a size."""

    @property
    def buffer(self) -> Input:
        return self

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def test_progress_of_standard_input_counts_characters(
    capsys: pytest.CaptureFixture[str], models: list[str], monkeypatch: pytest.MonkeyPatch, live: None
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", 300)
    monkeypatch.setattr(scorer, "_SPAN", 150)
    monkeypatch.setattr(sys, "stdin", Input(LONG.encode()))
    code, out, err = run(capsys, "score", "-", "--model", models[0])
    assert (code, table(out)[1][1]) == (0, "900")
    assert lines_of(err) == [f"scored {count} characters" for count in (150, 300, 450, 600, 750, 900)]


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


def test_table_too_wide_for_the_terminal_has_a_line_per_figure(
    tmp_path: Path, models: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abc\n", encoding="utf-8")
    arguments = ["score", str(path), *(f"--model={model}" for model in models[:2]), "--unknown=skip"]
    monkeypatch.setenv("COLUMNS", "500")
    table = run(capsys, *arguments)[1].splitlines()
    monkeypatch.setenv("COLUMNS", "40")
    first, second = run(capsys, *arguments)[1].rstrip("\n").split("\n\n")
    for row, block in zip(table[1:], (first, second), strict=True):
        assert [line.split() for line in block.splitlines()] == [
            list(pair) for pair in zip(table[0].split(), row.split(), strict=True)
        ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_heat_map_fits_the_terminal(tmp_path: Path, models: list[str]) -> None:
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    path = tmp_path / "t.txt"
    path.write_text("abcdefghij" * 8 + "\n", encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 33, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    running = subprocess.Popen(
        [*KNOCK, "score", str(path), "--model", models[0], "--heat"], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )  # fmt: skip
    assert running.wait(60) == 0
    time.sleep(0.05)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert "\x1b[" in shown
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).split("\r\n")
    assert ("abcdefghij" * 4)[:33] in lines
    assert "j↵" in "".join(lines)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "books" / "1.txt"
    path.parent.mkdir()
    path.write_text(LONG * 5, encoding="utf-8")
    path.with_name("2.txt").write_text("\nChief" * 90, encoding="utf-8")
    return path.parent


@pytest.mark.parametrize("lowercase", [False, True])
def test_held_out_part_is_that_of_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus: Path, lowercase: bool
) -> None:
    """The table has the losses of the tokens that training holds out, with the same treatment of unknown characters."""
    data = pytest.importorskip("knock_training.data")
    vocab = Vocab(LETTERS, lowercase=lowercase)
    paths = [tmp_path / "a.npz", tmp_path / "b.safetensors"]
    for path, kind in zip(paths, ("hybrid-relative", "content-absolute"), strict=True):
        write_checkpoint(path, random_weights(SMALL[kind], 0), vocab)
    given = [str(corpus / "1.txt"), str(corpus)]
    models = ["--model", str(paths[0]), "--model", str(paths[1])]
    code, out, err = run(capsys, "score", "--held-out", *given, *models, "--unknown", "replace")
    read = data.Corpus.read(given, vocab=vocab, unknown="replace")
    held_out = read.validation.numpy()
    assert code == 0
    head, *rows = table(out)
    assert head == ["model", "loss", "chars", "nats/char", "bits/char", "perplexity/char"]
    assert [row[:3] for row in rows] == [
        [str(path), loss, f"{len(held_out) - 1:,}"] for path in paths for loss in ("block 256", "stream")
    ]
    for (*_, nats, bits, perplexity), (path, block) in zip(
        rows, itertools.product(paths, (256, len(held_out))), strict=True
    ):
        engine = load(path).model.engine
        parts = [held_out[at : at + block + 1] for at in range(0, len(held_out) - 1, block)]
        expected = -sum(engine.log_probs(part[:-1], part[1:]).sum() for part in parts) / (len(held_out) - 1)
        assert float(nats) == pytest.approx(expected, abs=6e-5)
        assert float(bits) == pytest.approx(expected / math.log(2), abs=6e-5)
        assert float(perplexity.replace(",", "")) == pytest.approx(math.exp(expected), rel=1e-4)
    assert err.splitlines() == [
        f"knock: replaced {read.text.unknown_count} characters that {str(path)!r} does not know"
        for path in paths
        if not lowercase
    ]
    assert read.text.unknown_count == (0 if lowercase else 90)


def test_held_out_as_json(capsys: pytest.CaptureFixture[str], corpus: Path, models: list[str]) -> None:
    arguments = ["score", "--held-out", str(corpus), "--model", models[0], "--unknown", "skip"]
    rows = table(run(capsys, *arguments)[1])[1:]
    code, out, _ = run(capsys, *arguments, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["model"], result["digest"]) == (models[0], load(models[0]).digest)
    for row, key in zip(rows, ("block_256", "stream"), strict=True):
        facts = result["held_out"][key]
        assert f"{facts['characters']:,}" == row[2]
        assert [f"{facts[name]:.4f}" for name in ("nats_per_char", "bits_per_char")] == row[3:5]


def test_held_out_part_of_standard_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.txt"
    path.write_text(LONG, encoding="utf-8")
    expected = run(capsys, "score", "--held-out", str(path), "--model", models[0])
    assert expected[0] == 0
    monkeypatch.setattr(sys, "stdin", Input(LONG.encode()))
    assert run(capsys, "score", "--held-out", "-", "--model", models[0]) == expected


def test_held_out_part_of_another_corpus_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, models: list[str]
) -> None:
    for name in ("own", "other"):
        (tmp_path / f"{name}.txt").write_text(LONG + "a" * (name == "other"), encoding="utf-8")
    sha256 = hashlib.sha256(LONG.encode()).hexdigest()
    write_checkpoint(
        models[0], random_weights(SMALL["hybrid-relative"], 0), Vocab(LETTERS),
        {"corpus": {"name": "own.txt", "sha256": sha256}},
    )  # fmt: skip
    errors = {
        name: run(capsys, "score", "--held-out", str(tmp_path / f"{name}.txt"), "--model", models[0])[2]
        for name in ("own", "other")
    }
    assert errors["own"] == ""
    assert errors["other"] == (
        f"knock: {models[0]!r} was trained on another text, own.txt; training may have seen what this one holds out\n"
    )


def test_progress_of_the_held_out_part(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    models: list[str],
    monkeypatch: pytest.MonkeyPatch,
    live: None,
) -> None:
    path = tmp_path / "t.txt"
    path.write_text(LONG.replace("j", "c") * 6, encoding="utf-8")
    monkeypatch.setattr(evaluation, "MAX_CHARACTERS", 513)
    monkeypatch.setattr(scorer, "_SPAN", 4 * 256)
    code, out, err = run(capsys, "score", "--held-out", str(path), "--model", models[0], "--model", models[1])
    assert code == 0
    assert [row[2] for row in table(out)[1:]] == ["512"] * 4
    shown = re.findall(r"measured (\d+)%", err)
    assert shown == ["25", "50", "75", "100"]
    assert "knock: measured the first 512 characters of the 540 characters held out\n" in err


def test_held_out_needs_no_pytorch(tmp_path: Path, corpus: Path, models: list[str]) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no PyTorch here')", encoding="utf-8")
    done = process(
        "score", "--held-out", str(corpus), "--model", models[0], "--unknown", "skip",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    assert b"block 256" in done.stdout
