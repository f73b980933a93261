"""Tests of the command line: output, one-line errors, exit codes."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from knock import LanguageModel, __version__
from knock.cli.main import COMMANDS, main
from knock.cli.ui.options import CONTROLS
from knock.cli.ui.stats_box import stats_box
from knock.escapes import unescape
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import DEFAULT, shipped
from knock.sampling import Sampling, TokenStats, summarize
from tests.cases import SMALL, random_weights

KNOCK = [sys.executable, "-m", "knock"]
CORPUS = "Mary had a little lamb, its fleece was white as snow.\n" * 40
FAST = ["--steps", "6", "--eval-interval", "2", "--batch-chars", "128", "--T", "8", "--n-emb", "16", "--nodes", "16",
        "--n-blocks", "1", "--n-heads", "2", "--threads", "1", "--precision", "float32"]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output and standard error."""
    try:
        code = main(list(arguments))
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def process(*arguments: str, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*KNOCK, *arguments], input=stdin, capture_output=True, check=False, timeout=60, **options)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "mary.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


def test_generate_writes_only_prompt_and_text(capsys: pytest.CaptureFixture[str], default: LanguageModel) -> None:
    code, out, err = run(capsys, "generate", "ROMEO:", "--seed", "7", "--length", "80")
    assert (code, err) == (0, "")
    assert out == "ROMEO:" + default.generate("ROMEO:", sampling="balanced", max_new_tokens=80, seed=7).text


def test_only_new_leaves_the_prompt_out(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "ROMEO:", "-s", "7", "-n", "80"]
    assert "ROMEO:" + run(capsys, *arguments, "--only-new")[1] == run(capsys, *arguments)[1]


def test_plain_sampling_is_the_models_own_distribution(
    capsys: pytest.CaptureFixture[str], default: LanguageModel
) -> None:
    _, out, _ = run(capsys, "generate", "ROMEO:", "--sampling", "basic", "-s", "7", "-n", "80")
    assert out == "ROMEO:" + default.generate("ROMEO:", max_new_tokens=80, seed=7).text


def test_short_options_stand_for_the_long_ones(capsys: pytest.CaptureFixture[str]) -> None:
    name = "shakespeare-nano"
    short = run(capsys, "generate", "A", "-m", name, "-n20", "-s", "3", "-t", "0.5", "-p", "0.9", "-k", "9")
    long = run(capsys, "generate", "A", "--model", name, "--length", "20", "--seed", "3", "--temperature", "0.5",
               "--top-p", "0.9", "--top-k", "9")  # fmt: skip
    assert short == long
    assert short[0] == 0


def test_escapes_in_prompts_are_read_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "generate", "-e", r"a\nb", "-n", "0")
    assert (code, out) == (0, "a\nb")
    code, out, err = run(capsys, "generate", r"a\nb", "-n", "0")
    assert (code, out) == (1, "")
    assert "If it begins an escape such as \\n, pass --escapes. Remove it, or choose --unknown skip" in err


def test_quiet_suppresses_messages_but_not_errors_or_statistics(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["sample", "A", "-n", "3", "--length", "2", "--unique", "-o"]
    assert "repeats" in run(capsys, *arguments, str(tmp_path / "1.txt"))[2]
    assert run(capsys, *arguments, str(tmp_path / "2.txt"), "-q") == (0, "", "")
    assert "Mean entropy" in run(capsys, "generate", "A", "-q", "--stats")[2]
    assert "unknown character" in run(capsys, "generate", "é", "-q")[2]
    assert "repeats" in run(capsys, *arguments, str(tmp_path / "3.txt"))[2]


def test_generate_300_characters_from_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(capsys, "generate")[1]) == 300


def test_every_control_reaches_the_pipeline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.8, "top_n_sigma": 2.0,
        "target_entropy": 2.5, "entropy_rule": "ratio", "min_temp": 0.4, "max_temp": 1.5, "mirostat": 3.0,
        "mirostat_eta": 0.2, "no_repeat_ngram": 6, "dry_multiplier": 0.8, "dry_base": 1.5, "dry_allowed_length": 4,
        "repetition_range": 100,
    }  # fmt: skip
    assert given.keys() == set(CONTROLS) == Sampling.__dataclass_fields__.keys() - {"logit_bias"}
    seen: dict[str, object] = {}

    def stream(self: LanguageModel, prompt: str, **options: object) -> object:
        seen.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModel, "stream", stream)
    for name, value in given.items():
        option = "--entropy" if name == "target_entropy" else f"--{name.replace('_', '-')}"
        seen.clear()
        code, _, _ = run(capsys, "generate", "x", option, str(value), "--bias", "e=-2", "--bias", r"\n=-inf",
                         "--stop", r"\n\n", "--sampling", "basic" if name == "mirostat" else "top_k", "--unknown",
                         "skip")  # fmt: skip
        assert code == 130
        assert seen.pop("stop") == ["\n\n"]
        filters = {} if name == "mirostat" else {"top_k": 40}
        bias = {"e": -2.0, "\n": -np.inf}
        assert seen.pop("sampling") == Sampling(**{**filters, name: value, "logit_bias": bias})
        assert seen.pop("unknown") == "skip"
        assert seen == {"max_new_tokens": 300, "seed": None}


def test_command_summaries_match_the_docstrings() -> None:
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"knock.cli.{name}")
        assert (module.__doc__ or "").splitlines()[0] == summary


def test_escapes() -> None:
    assert unescape(r"a\n\t\\n") == "a\n\t\\n"


def test_stop_and_empty_prompt(capsys: pytest.CaptureFixture[str], default: LanguageModel) -> None:
    _, out, _ = run(capsys, "generate", "--seed", "1", "--stop", r"\n")
    assert out == default.generate("", sampling="balanced", seed=1).text.split("\n")[0]


def test_statistics_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "generate", "A", "--length", "0", "--stats")
    assert (code, out) == (0, "A")
    assert "No characters" in err
    _, out, err = run(capsys, "generate", "A", "--length", "50", "--stats", "--entropy", "2")
    assert len(out) == 51
    for label in ("Mean entropy:", "Characters/s:", "Ended by:         length", "Seed:"):
        assert f"│  {label}" in err


def test_stats_box_stays_aligned() -> None:
    def stats(entropy: list[float], confidence: float, temperature: float) -> TokenStats:
        one = np.ones(len(entropy))
        return TokenStats(
            entropy=np.array(entropy), sampled_entropy=one, confidence=confidence * one, surprise=one,
            temperature=temperature * one,
        )  # fmt: skip

    box = stats_box(summarize(stats([1.2, 3.8, 2.45, 2.35], 0.312, 0.85), seed=0))
    assert box.splitlines() == [
        "┌─────────────────────────────────────┐",
        "│           Generation Stats          │",
        "├─────────────────────────────────────┤",
        "│  Mean entropy:       2.45 bits      │",
        "│  Entropy range:    [1.20, 3.80]     │",
        "│  Entropy σ:        0.921            │",
        "│  Mean confidence:  0.312            │",
        "│  Mean temperature: 0.850            │",
        "└─────────────────────────────────────┘",
    ]
    assert "│" not in stats_box(summarize(stats([1.0], 0.3, 1.0), seed=0), columns=20)
    for odd in ([12.345, 1000000.0], [1e20], [], [float("nan")]):
        lines = stats_box(summarize(stats(odd, 1e-9, 1e22), seed=0)).splitlines()
        assert len({len(line) for line in lines}) == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"knock {__version__}\n")
    for command in COMMANDS:
        assert command in run(capsys, "--help")[1]
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        assert "examples:" in out


def test_info_shows_shape_losses_and_digest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "info")
    assert (code, err) == (0, "")
    checkpoint = read_checkpoint(shipped()[DEFAULT])
    losses = checkpoint.training["evaluation"]
    for fact in (
        f"{checkpoint.weights.n_parameters:,}",
        "Muon at 0.02, AdamW at 0.003",
        checkpoint.digest,
        f"{checkpoint.weights.config.position} positions",
        "65 characters",
        "tinyshakespeare.txt",
    ):
        assert fact in out
    for name in ("block_256", "stream"):
        assert f"{losses[name]['nats_per_char']:.4f} nats/char" in out


@pytest.mark.parametrize(
    "record", [None, {"mine": 1}, {"corpus": 1, "recipe": 2}, {"corpus": {"name": "\x1b[31mred\n"}}]
)
def test_info_of_a_model_without_vocabulary(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, record: dict | None
) -> None:
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(SMALL["content-absolute"], 0), training=record)
    code, out, _ = run(capsys, "info", str(path))
    assert code == 0
    assert "11 tokens without characters" in out
    assert re.search(r"^training +\{" if record else r"^training +no record", out, re.MULTILINE)
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["generate", "caf" + "é"], 1, "unknown character 'é' (U+00E9) at offset 3"),
        (["generate", "x", "--length", "-1"], 2, "at least 0, got '-1'"),
        (["generate", "x", "--length", "many"], 2, "at least 0, got 'many'"),
        (["generate", "x", "--temperature", "hot"], 2, "-t/--temperature: must be a number, got 'hot'"),
        (["generate", "x", "--top-k", "1.5"], 2, "-k/--top-k: must be a whole number of at least 0, got '1.5'"),
        (["generate", "x", "--model", ""], 1, "a model must be a name or a path, got ''"),
        (["generate", "x", "--quiet=1"], 2, "-q/--quiet: takes no value, got '1'"),
        (["generate", "x", "-n=5"], 2, "'-n=5' is not an option; a short option takes its value without =: -n 5; see"),
        (["generate", "x", "-q=5"], 2, "'-q=5' is not an option; it takes no value; see"),
        (["generate", "x", "--temperature", "-1"], 2, "temperature must be 0 (greedy) or above 0"),
        (["generate", "x", "--temperature", "nan"], 2, "temperature"),
        (["generate", "x", "--top-p", "0"], 2, "--top-p must be above 0 and at most 1 (off)"),
        (["generate", "x", "--top-p", "1.01"], 2, "--top-p must be above 0 and at most 1 (off)"),
        (["generate", "x", "--entropy", "2", "--temperature", "0.5"], 2, "give one of them"),
        (["generate", "x", "--mirostat", "2", "--min-p", "0.1"], 2, "--mirostat replaces --min-p"),
        (["generate", "x", "--bias", "ee=1"], 2, "a character, =, and a number"),
        (["generate", "x", "--bias", "e=x"], 2, "a character, =, and a number"),
        (["generate", "x", "--seed", str(2**64)], 2, "from 0 to 18446744073709551615"),
        (["generate", "x", "--model", "a" * 5000], 1, "cannot look for a model"),
        (["generate", "x", "--entropy", "2", "--entropy-rule", "x"], 2, "invalid choice"),
        (["generate", "x", "y\nz"], 2, r"unexpected argument 'y\nz'; quote"),
        (["generate", "x", "--stop", ""], 2, "stop string"),
        (["generate", "x", "--model", "nowhere"], 1, "neither a file nor a shipped model"),
        (["generate", "x", "--sampling", "nucleus"], 2, "invalid choice: 'nucleus'"),
        (["generate", "x", "y"], 2, "unexpected argument 'y'"),
        (["generate", "how", "are", "you"], 2, "unexpected arguments 'are', 'you'; quote"),
        (["generate", "x", "--temperature", "hot"], 2, "must be a number, got 'hot'; see"),
        (
            ["generate", "x", "--temperature", "0,8"],
            2,
            "must be a number, got '0,8'; write 0.8; see",
        ),
        (["generate", "x", "--top-k", "many"], 2, "must be a whole number of at least 0, got 'many'"),
        (["train", "mary.txt", "--out", "o.safetensors", "--dropout", "0,1"], 2, "must be a number, got '0,1'"),
        (["generate", "x", "--model", "nano"], 1, "did you mean shakespeare-nano?"),
        (["info", "shakespere-small"], 1, "did you mean shakespeare-small?"),
        (["help", "genrate"], 2, "'genrate' is not a command; did you mean generate? See knock help --help"),
        (["help", "ROMEO:"], 2, "'ROMEO:' is not a command; the commands are generate, sample,"),
        (["completion"], 2, "required: SHELL"),
        (["generate", "-hello"], 2, "put -- before it: knock generate -- '-hello'"),
        (["generate", "-no"], 2, "put -- before it: knock generate -- '-no'"),
        (["generate", "--find"], 2, "put -- before it: knock generate -- '--find'; see knock generate --help"),
        (["generate", "x", "--temprature", "3"], 2, "did you mean --temperature? See knock generate --help"),
        (["generate", "x", "--top_k", "3"], 2, "did you mean --top-k?"),
        (["generate", "x", "--max-new-tokens=3"], 2, "did you mean --length?"),
        (["generate", "x", "--stop", "-x"], 2, "--stop=-x"),
        (["generate", "x", "--stop", "--seed", "1"], 2, "expected one argument; write one that begins with a dash"),
        (["page", "--out"], 2, "argument --out: expected one argument; see knock page --help"),
        (["train", "mary.txt", "-o"], 2, "argument -o/--out: expected one argument; see knock train --help"),
        (["info", "--frce"], 2, "unknown option '--frce'; see knock info --help"),
        (["--verison"], 2, "unknown option '--verison'"),
        (["genrate", "x"], 2, "did you mean generate?"),
        (["ROMEO:"], 2, "run: knock generate 'ROMEO:'"),
        (["info", "nowhere"], 1, "neither a file nor a shipped model"),
        (["train", "nowhere.txt", "--out", "o.safetensors"], 1, "no such file"),
        (["train", "mary.txt"], 2, "--out"),
        (["train", "mary.txt", "--out", "o.txt"], 2, "argument -o/--out: must end in .safetensors or .npz"),
        (["train", "mary.txt", "--out", "none/o.safetensors"], 1, "cannot write the model file"),
        (["train", "mary.txt", "--out", "o.safetensors", "--n-emb", "65"], 2, "--n-heads 1 fits"),
        (["train", "mary.txt", "--out", "o.safetensors", "--size", "small", "--n-heads", "5"], 2, "--n-emb 128 and"),
        (
            ["train", "mary.txt", "--out", "o.safetensors", "--steps", "9" * 400],
            2,
            "--steps: must be a whole number from 1",
        ),
        (["train", "mary.txt", "--out", "o.safetensors", "--batch-chars", "9" * 30], 2, "--batch-chars: must be"),
        (["train", "mary.txt", "--out", "o.safetensors", "--metrics", "o.safetensors"], 2, "name the same file"),
        (["train", "-", "mary.txt", "--out", "o.safetensors"], 2, "must be the only CORPUS"),
        (["train", "a" * 5000, "--out", "o.safetensors"], 1, "cannot read"),
        (["train", "mary.txt", "--out", "o.safetensors", "--steps", "0"], 2, "at least 1, got '0'"),
        (
            ["train", "mary.txt", "--out", "o.safetensors", "--learning-rate", "0"],
            2,
            "--learning-rate must be greater than 0",
        ),
        (["train", "mary.txt", "--out", "o.safetensors", "--seed", "9" * 30], 2, "--seed"),
        (["train", "mary.txt", "--out", "o.safetensors", "--threads", "100000"], 2, "from 1 to 1024"),
        (["train", "mary.txt", "--out", "o.safetensors", "--n-emb", "10000000001"], 2, "--n-emb must be"),
        (["train", "mary.txt", "--out", "o.safetensors", "--nodes", "1" * 30], 2, "nodes"),
        (["train", "mary.txt", "--out", "o.safetensors", "--n-blocks", "3000000"], 2, "--n-blocks must be"),
        (["train", "mary.txt", "--out", "o.safetensors", "--T", "1000000"], 1, "use a longer text"),
        (["train", "mary.txt", "--out", "o.safetensors", "--T", "9999"], 1, "use a longer text or a smaller window"),
        (["train", "mary.txt", "--out", "o.safetensors", "--head-type", "x"], 2, "hybrid, reweight, content"),
        (["train", "empty.txt", "--out", "o.safetensors"], 1, "is empty"),
        (["train", "binary.txt", "--out", "o.safetensors"], 1, "not UTF-8 text: byte 0xff at offset 3"),
        ([], 2, "COMMAND"),
        (["nonsense"], 2, "'nonsense' is not a command"),
    ],
)
def test_invalid_input_is_reported_on_one_line(
    capsys: pytest.CaptureFixture[str],
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(corpus.parent)
    Path("empty.txt").touch()
    Path("binary.txt").write_bytes(b"abc\xff\x00")
    exit_code, out, err = run(capsys, *arguments)
    assert (exit_code, out) == (code, "")
    err = err.removeprefix("loading PyTorch\n")  # by the first test that needs it
    assert says in err
    assert err.startswith("knock")
    assert err.count("\n") == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "nan"])
def test_damaged_model_is_rejected(capsys: pytest.CaptureFixture[str], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.safetensors"
    content = bytearray(shipped()["shakespeare-hybrid"].read_bytes())
    if damage == "cut":
        del content[-1000:]
    elif damage == "flipped":
        content[200_000] ^= 4
    elif damage == "nan":
        content[-4:] = np.float32(np.nan).tobytes()
    else:
        content[:] = b"To be, or not to be\n" * 100
    path.write_bytes(content)
    for command in (["generate", "x", "--model", str(path)], ["info", str(path)]):
        code, out, err = run(capsys, *command)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "not a valid knock model file" in err


def test_prompt_from_standard_input() -> None:
    result = process("generate", "-", "--length", "20", "--seed", "1", stdin=b"\xef\xbb\xbfROMEO:\r\n")
    assert result.returncode == 0
    assert result.stdout.decode().splitlines()[0] == "ROMEO:"
    expected = process("generate", "ROMEO:\n", "--length", "20", "--seed", "1")
    assert result.stdout == expected.stdout


def test_standard_input_that_is_not_utf8() -> None:
    for start in (b"ROM", b"\xef\xbb\xbf"):
        result = process("generate", "-", stdin=start + b"\xff")
        assert (result.returncode, result.stdout) == (1, b"")
        assert result.stderr.startswith(b"knock: error: standard input is not UTF-8 text: byte 0xff at offset 3")
        assert result.stderr.count(b"\n") == 1


def test_output_is_utf8_in_any_locale(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    from knock import Vocab

    write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), Vocab("äöüß日本語éèê—"))
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    result = process("generate", "äö", "--model", str(path), "--length", "50", env=environment)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.decode("utf-8")) == 52


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell's pipes")
def test_broken_pipe() -> None:
    writer = subprocess.Popen(
        [*KNOCK, "generate", "ROMEO:", "--length", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert writer.stdout.read(5) == b"ROMEO"
    writer.stdout.close()
    assert writer.wait(30) == 0
    assert writer.stderr.read() == b""
    writer.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_output_device() -> None:
    commands = ("--help", "--version", "help train", "info", "generate x")
    for command, unbuffered in itertools.product(commands, ("", "1")):  # Docker images often set PYTHONUNBUFFERED
        result = shell(f"knock {command} >/dev/full", PYTHONUNBUFFERED=unbuffered)
        assert (result.returncode, result.stderr) == (1, b"knock: error: cannot write: no space left on device\n")


def shell(command: str, **added: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which `knock` stands for the program, with buffered output and `added` variables."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | added
    command = command.replace("knock ", f"'{sys.executable}' -m knock ", 1)
    return subprocess.run(command, shell=True, capture_output=True, check=False, timeout=60, env=environment)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_streams(corpus: Path) -> None:
    for command in ("generate x", "info", "--help", "help", "--version"):
        closed = shell(f"knock {command} >&-")
        assert closed.returncode == 1
        assert closed.stderr == b"knock: error: standard output is closed, so there is nowhere to write to\n"
    assert shell("knock generate - <&-").stderr.startswith(b"knock: error: cannot read standard input")
    assert shell("knock --help | true").returncode == 0
    silent = shell("knock generate x --length 5 --seed 1 --stats 2>&-")
    assert (silent.returncode, len(silent.stdout)) == (0, 6)
    for number, redirection in enumerate(("2>&-", "2>/dev/full", "2>&1 | head -1")):
        model = corpus.with_name(f"{number}.safetensors")
        done = shell(f"knock train {corpus} --out {model} {' '.join(FAST)} {redirection}")
        assert done.returncode == 0, done.stderr
        assert b"loss" not in done.stdout
        assert "stream" in read_checkpoint(model).training["evaluation"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_interrupted_generation_keeps_its_output() -> None:
    running = subprocess.Popen(
        [*KNOCK, "generate", "ROMEO:", "--length", "10000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    first = running.stdout.read(40)
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert errors == b""
    assert (first + rest).startswith(b"ROMEO:")


def test_train_then_generate(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    model = corpus.with_name("mary.safetensors")
    code, out, err = run(capsys, "train", str(corpus), "--out", str(model), *FAST, "--lowercase", "--seed", "3")
    assert (code, out) == (0, "")
    for said in (
        "2,160 characters",
        "step 2/6",
        "validation",
        "chars/s",
        "left",
        "    | ",
        "block 256",
        "stream",
        "saved",
    ):
        assert said in err
    checkpoint = read_checkpoint(model)
    assert checkpoint.training["recipe"]["steps"] == 6
    assert checkpoint.training["recipe"]["seed"] == 3
    assert checkpoint.weights.config.T == 8
    assert "M" not in checkpoint.vocab
    code, out, _ = run(capsys, "generate", "MARY", "--model", str(model), "--length", "10")
    assert code == 0
    assert len(out) == 14
    assert run(capsys, "info", str(model))[0] == 0


def test_train_on_standard_input(corpus: Path) -> None:
    model = corpus.with_name("mary.safetensors")
    done = process("train", "-", "--out", str(model), *FAST, stdin=corpus.read_bytes())
    assert (done.returncode, done.stdout) == (0, b"")
    assert read_checkpoint(model).training["corpus"]["name"] == "standard input"


def test_model_is_saved_before_it_is_evaluated(
    capsys: pytest.CaptureFixture[str], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knock_training import evaluate

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate", interrupted)
    model = corpus.with_name("mary.safetensors")
    assert run(capsys, "train", str(corpus), "--out", str(model), *FAST)[0] == 130
    assert read_checkpoint(model).training["steps_done"] == 6
    assert run(capsys, "info", str(model))[0] == 0


def test_batch_too_large_for_memory(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    options = ["--out", str(corpus.with_name("o.safetensors")), *FAST, "--batch-chars", "1000000000000000"]
    code, _, err = run(capsys, "train", str(corpus), *options)
    assert code == 1
    assert err.splitlines()[-1].startswith("knock: error: not enough memory")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_interrupted_training_saves_the_best(corpus: Path) -> None:
    model = corpus.with_name("mary.safetensors")
    command = [*KNOCK, "train", str(corpus), "--out", str(model), *FAST, "--steps", "1000000"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert running.stderr is not None
    while "validation" not in running.stderr.readline():
        pass
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted after" in errors
    assert read_checkpoint(model).training["ended"] == "interrupted"


def test_model_too_large_for_memory(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    code, _, err = run(
        capsys, "train", str(corpus), "--out", str(corpus.with_name("o.safetensors")), "--n-emb", "1000000"
    )
    assert code == 1
    assert err.splitlines()[-1].startswith("knock: error: not enough memory")


def test_training_without_pytorch_names_the_extra(
    capsys: pytest.CaptureFixture[str], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run(capsys, "train", str(corpus), "--out", str(corpus.with_name("o.safetensors")))
    assert code == 1
    assert "pip install '.[train]'" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_seed_is_reported_and_the_line_ended_on_a_terminal() -> None:
    import pty

    ours, theirs = pty.openpty()
    running = subprocess.Popen([*KNOCK, "generate", "ROMEO:", "--length", "30"], stdout=theirs, stderr=theirs)
    assert running.wait(60) == 0
    time.sleep(0.05)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    text, seed, end = shown.rsplit("\r\n", 2)
    assert text.startswith("\x1b[1mROMEO:\x1b[0m")
    assert seed.startswith("seed ")
    assert end == ""
    repeated = process("generate", "ROMEO:", "--length", "30", "--seed", seed.split()[1])
    assert repeated.stdout.decode().rstrip("\n") == re.sub(r"\x1b\[\d*m|\r", "", text).rstrip("\n")
