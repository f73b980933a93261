"""Tests of `knock demo`: its texts are those of the commands that it shows, its numbers those of the library."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from knock import LanguageModel, Vocab
from knock.cli.demo.drawing import HOT, TOP_P, outside
from knock.cli.demo.repetition import share_repeated
from knock.cli.demo.tour import ITEMS, Tour
from knock.cli.main import main
from knock.files.checkpoint import write_checkpoint
from knock.gpt import ReweightGPT
from knock.language_model import load
from tests.cases import EVERY, random_weights, save_items

NANO = "shakespeare-nano"
STEPS = 7


def demo(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["demo", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def quoted(out: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands that are shown, each with the lines of its text."""
    for shown in re.finditer(r"^  (knock (?:generate|sample) .*)\n((?:  \|.*\n)+)", out, re.MULTILINE):
        lines = [line[4:] for line in shown[2].splitlines()]
        yield shown[1], [line for line in lines if not re.fullmatch(r"[ ^]*\^", line)]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of items, some of which are empty."""
    return save_items(tmp_path_factory.mktemp("items"), "abc")


@pytest.mark.parametrize("arguments", [(), ("--seed", "7", "--prompt", "KING\\ a\nb")], ids=["default", "prompt"])
def test_each_text_is_that_of_the_command_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "10000")
    path = tmp_path / "a model.safetensors"
    nano = load(NANO)
    vocab = Vocab("\\".join(("", "".join(nano.vocab.characters[1:]))).replace("$", "\n"))
    LanguageModel(nano.model, vocab).save(path)
    given = list(quoted(demo(capsys, "--model", str(path), "--length", "60", *arguments)))
    assert len(given) == 9
    for command, lines in given:
        words = shlex.split(command)
        assert (words[0], words[words.index("-m") + 1]) == ("knock", str(path))
        assert main(words[1:]) == 0
        expected = capsys.readouterr().out.split("\n")
        assert [line.rstrip(" ") for line in expected] == lines


def test_items_are_those_of_the_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, items: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "10000")
    given = list(quoted(demo(capsys, "--model", str(items), "--prompt", "ab")))
    assert len(given) == 8
    for command, (line,) in given:
        assert main(shlex.split(command)[1:]) == 0
        texts = capsys.readouterr().out.splitlines()
        assert len(texts) == ITEMS
        assert line == " ".join(f"{text}∎" for text in texts)


@pytest.mark.parametrize("columns", [30, 80])
@pytest.mark.parametrize("name", EVERY)
def test_any_model_fits_any_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(EVERY[name], 0), Vocab("\n abcdefg\x1bé"))
    out = demo(capsys, "--model", str(path), "--length", "30")
    for number in range(1, STEPS + 1):
        assert f"\n{number} of {STEPS}. " in out
    for kind in EVERY[name].head_types:
        assert f": {kind}" in re.sub(r"\s+", " ", out)
    notes = [line for line in out.splitlines() if not line.startswith("  knock ")]
    assert max(map(len, notes)) <= columns
    assert "\x1b" not in out


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, seed: int) -> None:
    path = tmp_path / "m.safetensors"
    vocab = Vocab("a", boundary=True)
    LanguageModel(ReweightGPT(2, T=2, n_emb=4, nodes=4, n_blocks=1, n_heads=1, seed=seed), vocab).save(path)
    assert f"\n{STEPS} of {STEPS}. " in demo(capsys, "--model", str(path), "--seed", str(seed))


@pytest.fixture(scope="module")
def tour() -> Tour:
    return Tour(name=NANO, model=load(NANO), prompt="ROMEO:", seed=3, length=120)


def test_numbers_are_those_of_the_library(capsys: pytest.CaptureFixture[str], tour: Tour) -> None:
    out = re.sub(r"\s+", " ", demo(capsys, "--model", NANO, "--seed", "3", "--length", "120"))
    nano = tour.model

    def stats(length: int = 120, **controls: object) -> float:
        text = nano.generate("ROMEO:", max_new_tokens=length, seed=3, **controls)  # type: ignore[arg-type]
        return text.stats["mean_surprise"]

    for temperature in (0.2, 0.8, 1.5):
        assert f"surprise {stats(temperature=temperature):.2f} bits a character; the likeliest" in out
    greedy = nano.generate("ROMEO:", max_new_tokens=240, seed=3, temperature=0)
    assert f"{share_repeated([greedy]):.0%} repeated, surprise {greedy.stats['mean_surprise']:.2f} bits" in out
    for options, controls in {
        "-t 0 --no-repeat-ngram 12": {"temperature": 0, "no_repeat_ngram": 12},
        "-t 0 --dry-multiplier 0.8": {"temperature": 0, "dry_multiplier": 0.8},
        "--entropy 1": {"target_entropy": 1},
    }.items():
        text = nano.generate("ROMEO:", max_new_tokens=240, seed=3, **controls)  # type: ignore[arg-type]
        assert f" {options} {share_repeated([text]):.0%} {text.stats['mean_surprise']:.2f} bits" in out
    target = round(nano.generate("ROMEO:", max_new_tokens=120, seed=3).stats["mean_entropy"], 1)
    steered = nano.generate("ROMEO:", max_new_tokens=120, seed=3, target_entropy=target, token_stats=True).token_stats
    assert steered is not None
    near = np.abs(steered.sampled_entropy - target) <= 0.05
    assert f"The entropy of the draw was within 0.05 bits of {target:g} at {near.mean():.0%} of the" in out
    assert f"and {steered.sampled_entropy.mean():.2f} on average" in out
    assert f"{stats(sampling='entropy'):.2f} bits a character, against {stats(target_entropy=target):.2f} on" in out


@pytest.mark.parametrize("seed", range(3))
def test_carets_are_what_top_p_leaves_out(tour: Tour, seed: int) -> None:
    other = Tour(name=NANO, model=tour.model, prompt="ROMEO:", seed=seed, length=400)
    (free,), (safe,) = other.write(temperature=HOT), other.write(temperature=HOT, top_p=TOP_P)
    assert outside(other, free.text).any()
    assert not outside(other, safe.text).any()


def test_carets_stand_below_what_is_counted(capsys: pytest.CaptureFixture[str], tour: Tour) -> None:
    out = demo(capsys, "--model", NANO, "--seed", "3", "--length", "120")
    (text,) = tour.write(temperature=HOT)
    is_outside = outside(tour, text.text)
    step = out.partition("\n4 of")[2].partition("words that have")[0]
    assert f"{is_outside.sum()} of 120 characters (^)" in re.sub(r"\s+", " ", step)
    rows = step.splitlines()
    marked = [
        above[column]
        for above, line in itertools.pairwise(rows)
        for column in (match.start() for match in re.finditer(r"\^", line))
        if re.fullmatch(r"  \|[ ^]*\^", line)
    ]
    assert marked == [char for char, is_out in zip(text.text, is_outside, strict=True) if is_out and char != "\n"]


def test_default_prompt(capsys: pytest.CaptureFixture[str], items: Path, tmp_path: Path) -> None:
    assert "After 'ROMEO:', it expects" in demo(capsys, "--length", "1", "--model", NANO)
    assert "At the beginning, it expects" in demo(capsys, "--length", "1", "--model", str(items))
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, random_weights(EVERY["all"], 0), Vocab("abcdefghijk"))
    assert "At the beginning, it expects" in demo(capsys, "--length", "1", "--model", str(path))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--prompt", "5"], 1, "unknown character '5' (U+0035) at offset 0; .*; choose another --prompt"),
        (["--length", "0"], 2, "must be a whole number"),
        (["--model", "nowhere"], 1, "no model named 'nowhere'"),
        (["--seed", "-1"], 2, "must be a whole number"),
        (["more"], 2, "more"),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    assert main(["demo", *arguments]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert re.search(message.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+"), captured.err)
