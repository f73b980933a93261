"""What the tests of `knock inspect` share: small models with an odd vocabulary, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knock import LanguageModel, ModelConfig, ReweightGPT, Vocab
from knock.choices import DEFAULT_PRECISION, Precision
from knock.cli.main import main
from tests.cases import EVERY, random_weights

ODD = "a\n\t\0 <&'\u2028\u0301🦜"  # 11 characters, as many as the small models have tokens


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run `knock inspect`; return exit code, standard output and standard error."""
    code = main(["inspect", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def small(kind: str, vocab: str = ODD, precision: Precision = DEFAULT_PRECISION, **shape: Any) -> LanguageModel:
    reach = {"reweight_T": None} if "T" in shape else {}
    config = ModelConfig(**{**EVERY[kind].to_dict(), **reach, "vocab_size": len(vocab), **shape})
    return LanguageModel(ReweightGPT.from_weights(random_weights(config, 3), precision=precision), Vocab(vocab))


def saved(folder: Path, kind: str, vocab: str = ODD, **shape: Any) -> str:
    path = folder / f"{kind}.safetensors"
    small(kind, vocab, **shape).save(path)
    return str(path)
