"""Tests of messages with arguments by the names of their options."""

from __future__ import annotations

from pathlib import Path

import pytest

from knock.cli.main import build_parser
from knock.cli.ui.naming import as_typed, option_names
from tests.cli.test_main import run

NAMES = {
    "top_p": "--top-p", "top_n_sigma": "--top-n-sigma", "target_entropy": "--entropy", "logit_bias": "--bias",
    "temperature": "--temperature", "mirostat": "--mirostat", "min_length": "--min-length",
    "max_length": "--max-length", "pattern": "--pattern", "seed": "--seed", "max_new_tokens": "--length",
}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("top_p must be above 0, got 2.0", "--top-p must be above 0, got 2.0"),
        ("min_length=9 is above max_length=3", "--min-length=9 is above --max-length=3"),
        ("mirostat replaces top_p; give one", "--mirostat replaces --top-p; give one"),
        ("mirostat needs a temperature above 0", "--mirostat needs a temperature above 0"),
        ("logit_bias of 'top_p' must be a number", "--bias of 'top_p' must be a number"),
        ("another run: seed was 1 and is 2, top_p was 1", "another run: --seed was 1 and is 2, --top-p was 1"),
        ("max_new_tokens must be at least 0", "--length must be at least 0"),
        ("the pattern must be short; the model's seed was", "the pattern must be short; the model's seed was"),
        ("'top_p must be' and \"top_p\" in \"a\\\"top_p\"", "'top_p must be' and \"top_p\" in \"a\\\"top_p\""),
        ("my_top_p, top_p.txt, a/top_p and x.top_p", "my_top_p, top_p.txt, a/top_p and x.top_p"),
    ],
)  # fmt: skip
def test_arguments_go_by_their_options(message: str, expected: str) -> None:
    assert as_typed(message, NAMES) == expected


def test_without_options_a_message_stays() -> None:
    assert as_typed("top_p must be above 0", {}) == "top_p must be above 0"


def test_names_are_the_first_long_options_by_destination() -> None:
    names = option_names(build_parser("train").commands["train"])
    assert (names["out"], names["vocab_from"], names["n_emb"]) == ("--out", "--from", "--n-emb")
    assert "corpus" not in names
    names = option_names(build_parser("sample").commands["sample"])
    assert (names["target_entropy"], names["max_new_tokens"]) == ("--entropy", "--length")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--top-p", "2"], "--top-p must be above 0 and at most 1 (off), got 2.0"),
        (["--max-temp", "0.1"], "--max-temp must be at least --min-temp (0.3), got 0.1"),
        (["--entropy", "-1"], "--entropy must be 0 (always --min-temp) or from"),
        (["--mirostat", "2", "--top-p", "0.5"], "--mirostat replaces --top-p; give one or the other"),
        (["--bias", "a=1e99"], "--bias of 'a' must be from"),
        (["--min-length", "9", "--max-length", "3"], "--min-length=9 is above --max-length=3"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "sample"])
def test_errors_of_the_library_name_options(
    capsys: pytest.CaptureFixture[str], command: str, given: list[str], message: str
) -> None:
    code, _, err = run(capsys, command, "--model", "names", "--backend", "numpy", *given)
    assert (code, err.startswith(f"knock: error: {message}"), err.count("\n")) == (2, True, 1)


def test_fields_of_a_prompt_file_keep_their_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "A", "top_p": 2}\n', encoding="utf-8")
    code, _, err = run(capsys, "sample", "--model", "names", "--backend", "numpy", "--prompts", str(path))
    assert (code, "top_p must be above 0" in err, "--top-p" in err) == (1, True, False)
