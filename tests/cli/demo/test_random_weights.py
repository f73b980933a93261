"""Tests of `knock demo --random-weights`: its texts and statistics match the library."""

from __future__ import annotations

import re

import pytest

from knock import ReweightGPT, Vocab
from knock.cli.demo.random_weights import PROMPT, TEXT
from knock.cli.main import main


def demo(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["demo", "--random-weights", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_texts_match_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    vocab = Vocab.from_text(TEXT)
    expected = []
    for head_type, sampling, controls in (
        ("hybrid", "basic", {}),
        ("hybrid", "top_p", {"top_p": 0.8}),
        ("hybrid", "entropy", {"target_entropy": 3.0, "entropy_rule": "exact", "max_temp": 2.0}),
        ("reweight", "basic", {}),
        ("content", "basic", {}),
        ("hybrid", "basic", {}),
    ):
        model = ReweightGPT(vocab.vocab_size, head_type=head_type, seed=5)
        tokens, stats = model.generate(vocab.encode(PROMPT), 60, sampling=sampling, seed=5, **controls)
        expected += [PROMPT + vocab.decode(tokens), f"{stats['mean_entropy']:.2f}", f"{stats['mean_temp']:.3f}"]
    out = demo(capsys, "--seed", "5", "--length", "60").replace("\n  | ", "")  # the lines of a text, joined
    texts = re.findall(r"\n(It was the .*)\n  entropy ([0-9.]+) bits [^|]*?temperature ([0-9.]+),", spread(out))
    assert [part for text in texts for part in text] == expected


def spread(out: str) -> str:
    return out.replace(PROMPT, f"\n{PROMPT}")


@pytest.mark.parametrize("columns", [40, 80])
def test_steps_are_named_and_fit_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = demo(capsys)
    for word in ("basic", "top_p", "entropy", "reweight", "content", "hybrid", "random"):
        assert f"{word} " in out or f"{word}:" in out
    command = "  knock train corpus.txt --out my.safetensors"
    assert " ".join(command.split()) in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= columns
    monkeypatch.setenv("COLUMNS", "10000")
    notes = [line for line in out.splitlines() if not line.startswith("  | ")]
    wide = [line for line in demo(capsys).splitlines() if not line.startswith("  | ")]
    assert " ".join(notes).split() == " ".join(wide).split()  # no word is split


@pytest.mark.parametrize(
    "arguments",
    [["--length", "0"], ["--seed", "-1"], ["--seed", "x"], ["more"], ["--prompt", "A"], ["--model", "names"]],
)
def test_invalid_arguments_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--random-weights", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
