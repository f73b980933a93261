"""Tests of constraints and of penalties of repetition with `knock generate`, for texts and for items."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from knock import LanguageModel, Vocab
from knock.cli.main import main
from knock.gpt import ReweightGPT
from knock.language_model import load

NANO = "shakespeare-nano"
BALANCED = "balanced"


@pytest.fixture(scope="module")
def nano() -> LanguageModel:
    return load(NANO)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of items."""
    path = tmp_path_factory.mktemp("items") / "items.safetensors"
    vocab = Vocab("abc", boundary=True)
    gpt = ReweightGPT(vocab.vocab_size, T=8, n_emb=16, nodes=16, n_blocks=2, n_heads=2, seed=3)
    LanguageModel(gpt, vocab).save(path)
    return path


class Command:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, model: str | Path = NANO) -> tuple[int, str, str]:
        code = main(["generate", "-m", str(model), *arguments])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_every_constraint_reaches_the_text(generate: Command, nano: LanguageModel) -> None:
    arguments = ["KING ", "--pattern", "[A-Z][A-Z :]*", "--min-length", "12", "--max-length", "20", "--ban", "VI",
                 "--ban", r"\n", "--stop", ":", "--stop", "T:", "--keep-stop", "-s", "3"]  # fmt: skip
    options = {
        "pattern": "[A-Z][A-Z :]*", "min_length": 12, "max_length": 20, "ban": ["VI", "\n"], "stop": [":", "T:"],
        "keep_stop": True,
    }  # fmt: skip
    expected = nano.generate("KING ", sampling=BALANCED, seed=3, **options)
    assert generate(*arguments)[:2] == (0, "KING " + expected.text)
    assert re.fullmatch("[A-Z][A-Z :]*:", expected.text)
    assert 12 <= len(expected.text.removesuffix(":")) <= 20


def test_an_exact_text_is_drawn_until_it_matches(generate: Command, nano: LanguageModel) -> None:
    code, out, _ = generate("KING ", "--pattern", "H[A-Z ]+:", "--exact", "-s", "3", "--only-new")
    expected = nano.generate("KING ", sampling=BALANCED, seed=3, pattern="H[A-Z ]+:", exact=True)
    assert (code, out) == (0, expected.text)
    first = nano.generate("KING ", sampling=BALANCED, seed=3).text
    assert not re.match("H[A-Z ]+:", first)  # it was rejected
    assert re.fullmatch("H[A-Z ]+:", out)
    code, out, err = generate("--pattern", "z{60}", "--exact", "-s", "3")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "none of 10,000 texts that were drawn matches the constraint" in err


@pytest.mark.parametrize(
    ("arguments", "ended"),
    [
        (("-n", "20"), "length"),
        (("--stop", "e"), "stop"),
        (("--pattern", "[a-z]{3}"), "full match"),
        (("KING ", "--pattern", "[A-Z ]+:", "--exact"), "full match"),
    ],
)
def test_statistics_say_why_a_text_ended(generate: Command, arguments: tuple[str, ...], ended: str) -> None:
    err = generate(*arguments, "--stats", "-s", "1")[2]
    assert re.search(rf"Ended by: +{ended} ", err)
    assert ("Characters/s:" in err) == ("--exact" not in arguments)


def test_a_model_of_items_generates_one_item(generate: Command, items: Path) -> None:
    lm = load(items)
    for prompt in ("", "ab"):
        expected = lm.generate(prompt, sampling=BALANCED, seed=5)
        assert expected.finish_reason == "end"
        code, out, err = generate(prompt, "-s", "5", "--stats", model=items)
        assert (code, out) == (0, prompt + expected.text)
        assert re.search(r"Ended by: +end of item ", err)
    _, out, _ = generate("ab", "-s", "5", "--pattern", "[abc]{6}", model=items)
    assert re.fullmatch("ab[abc]{4}", out)
    assert generate("-t", "0", model=items)[2] == ""  # no notice of blank lines: an item may be empty


SLOW = "[ab]*a[ab]{20}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pattern", "("), "the pattern '(' is not a regular expression: missing )"),
        (("--pattern", "(?=a)b"), "uses lookahead and lookbehind, which constraints do not support"),
        (("--pattern", r"(a)\1"), "uses backreferences"),
        (("--pattern", r"\ba"), "uses word boundaries"),
        (("--pattern", "(" * 2000 + "a" + ")" * 2000), "has groups nested too deeply"),
        (("--pattern", "\u00e9+"), "no text that the model can write matches the pattern 'é+'; it does not know 'é'"),
        (("--pattern", "a+", "--ban", "a"), "the banned characters and strings leave no text that matches"),
        (("--pattern", "a{400}"), "takes 400 characters, its end included, and the length limit is 300"),
        (("--pattern", "abc", "--min-length", "5"), "no text that matches the pattern has at least 5 characters"),
        (("--pattern", SLOW), "the constraints need more than 100,000 states; simplify the pattern"),
        (("--pattern", "(a?){3000}"), "the pattern has too many optional parts in a row"),
        (("--pattern", "a{1000000}"), "stands for more than 100,000 characters; lower its repetition counts"),
        (("--min-length", "1000000"), "the constraints need more than 100,000 states"),
        (("--min-length", "5", "--max-length", "3"), "--min-length=5 is above --max-length=3"),
        (("--min-length", "-1"), "argument --min-length: must be a whole number of at least 0"),
        (("--max-length", "x"), "argument --max-length: must be a whole number of at least 0"),
        (("--ban", ""), "a banned string needs at least one character"),
        (("--no-repeat-ngram", "-1"), "--no-repeat-ngram: must be a whole number of at least 0"),
        (("--dry-base", "0.5"), "--dry-base must be from 1 to 10000"),
        (("--dry-multiplier", "-1"), "--dry-multiplier must be 0 (off) or"),
        (("--dry-allowed-length", "0"), "--dry-allowed-length: must be a whole number of at least 1"),
        (("--repetition-range", "1.5"), "argument --repetition-range: must be a whole number"),
    ],
)
def test_bad_constraints_are_usage_errors(generate: Command, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = generate(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_banning_everything_is_a_usage_error(generate: Command, nano: LanguageModel) -> None:
    every = [argument for char in nano.vocab.characters for argument in (f"--ban={char}",)]
    code, out, err = generate(*every)
    assert (code, out, err) == (2, "", "knock: error: the banned characters leave nothing to write; ban fewer\n")


def test_help_says_what_a_pattern_is(capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "the whole text must match REGEX" in shown
    assert r"lookaround, backreferences, \b, and atomic or possessive parts are not supported" in shown
    assert "That changes how probable texts are among themselves; to keep it, --exact draws freely" in shown


def loops(text: str, run: int = 50) -> bool:
    """Whether a run of that many characters occurs three times or more."""
    runs = Counter(text[i : i + run] for i in range(len(text) - run + 1))
    return max(runs.values()) >= 3


@pytest.mark.parametrize(
    "controls",
    [
        ("--no-repeat-ngram", "12"),
        ("--dry-multiplier", "0.8"),
        ("--dry-multiplier", "0.5", "--dry-base", "1.5", "--dry-allowed-length", "12"),
    ],
)
@pytest.mark.parametrize("model", [NANO, "shakespeare-hybrid"])
def test_a_greedy_text_loops_unless_repetition_is_penalized(
    generate: Command, model: str, controls: tuple[str, ...]
) -> None:
    greedy = ("ROMEO:", "-n", "3000", "-t", "0")
    code, out, _ = generate(*greedy, model=model)
    assert code == 0
    assert loops(out)
    code, out, _ = generate(*greedy, *controls, model=model)
    assert (code, len(out)) == (0, 3006)
    assert not loops(out)
