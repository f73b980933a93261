"""The losses of a finished model: the engine against PyTorch."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from knock import ModelConfig, Vocab
from knock.choices import Backend, Position
from knock.engine.engine import Engine
from knock.errors import TextError
from knock.files.checkpoint import write_checkpoint
from knock.generation import evaluation, scoring
from knock.generation.evaluation import Loss
from knock.weights import Weights
from knock_training.evaluate import evaluate
from knock_training.model import Twin
from tests.cases import EVERY, RUNS, SMALL, random_tokens, random_weights

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
TINY = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def by_definition(weights: Weights, tokens: np.ndarray, block: int) -> dict[str, float]:
    """Both losses in PyTorch, in float64."""
    twin, T = Twin(weights).double(), weights.config.longest_window

    @torch.no_grad()
    def summed(part: np.ndarray) -> float:
        ids = torch.from_numpy(part).long()
        if weights.config.position == "relative":
            logits = twin(ids[None, :-1])[0]
        else:
            logits = twin(ids[None, :-1][:, :T])[0]
            if len(ids) - 1 > T:
                windows = ids[1:-1].unfold(0, T, 1)  # each predicts the character after it
                logits = torch.cat([logits, twin(windows)[:, -1]])
        return torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()

    n = len(tokens) - 1
    blocks = sum(summed(tokens[i : i + block + 1]) for i in range(0, n, block))
    return {"block_256": blocks / n, "stream": summed(tokens) / n}


@pytest.mark.parametrize(("kind", "backend"), RUNS)
@pytest.mark.parametrize("length", [2, 41, 42, 150])
def test_losses_match_their_definition(
    kind: str, length: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights(EVERY[kind], 0)
    tokens = random_tokens(weights.config, length)
    monkeypatch.setattr(evaluation, "BLOCK", 20)
    monkeypatch.setattr(scoring, "_SPAN", 4 * 60)  # several parts in a relative model, and blocks of their own
    engine = Engine(weights, backend, "float32")
    result = evaluation.evaluate(engine, tokens)
    expected = by_definition(weights, tokens, block=20)
    tolerance = 1e-4 if engine.backend == "compiled" else 1e-9
    assert {name: loss.nats for name, loss in result.items()} == pytest.approx(expected, abs=tolerance)
    assert {loss.characters for loss in result.values()} == {length - 1}


def test_blocks_are_256_characters_long() -> None:
    weights = random_weights(SMALL["hybrid-absolute"], 0)
    tokens = random_tokens(weights.config, 600)
    result = evaluation.evaluate(Engine(weights, precision="float32"), tokens)["block_256"].nats
    assert result == pytest.approx(by_definition(weights, tokens, block=256)["block_256"], abs=1e-4)
    assert abs(result - by_definition(weights, tokens, block=200)["block_256"]) > 1e-3


def test_loss() -> None:
    loss = Loss(3 * math.log(2), 1)
    assert (loss.bits, str(loss)) == (3, "2.0794 nats/char (3.0000 bits)")
    assert loss.perplexity == pytest.approx(8)
    assert Loss(1e9, 1).perplexity == math.inf
    with pytest.raises(TextError, match="at least 2 characters, got 1"):
        evaluate(random_weights(SMALL["hybrid-relative"], 0), np.zeros(1, np.int32))


@pytest.mark.parametrize("backend", ["compiled", "numpy"])
@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_time_limit(monkeypatch: pytest.MonkeyPatch, position: Position, backend: str) -> None:
    """When the time is over, both losses are of the same characters, and those of a shorter text."""
    monkeypatch.setenv("KNOCK_BACKEND", backend)
    weights = random_weights(SMALL[f"hybrid-{position}"], 0)
    tokens = random_tokens(weights.config, 1000)
    monkeypatch.setattr(scoring, "_SPAN", 4 * 256)
    whole = evaluate(weights, tokens)
    assert whole["stream"].characters == 999
    assert evaluate(weights, tokens, seconds=1e9) == whole
    shares = list[float]()
    part = evaluate(weights, tokens, seconds=1e-9, progress=shares.append)
    done = part["stream"].characters
    assert part == evaluate(weights, tokens[: done + 1])
    assert done == 256
    assert shares == [done / 999]
    evaluate(weights, tokens, progress=shares.append)
    assert shares[1:] == [256 / 999, 512 / 999, 768 / 999, 1]


def test_a_short_limit_never_waits_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    work = list[int]()
    monkeypatch.setattr(Engine, "settle", lambda self, positions: work.append(positions))
    for seconds in (None, 1e6, 10.0):
        evaluate(random_weights(SMALL["hybrid-relative"], 0), np.zeros(1001, np.int32), seconds=seconds)
    assert work == [2000, 2000, 0]


def test_command_is_that_of_knock(tmp_path: Path) -> None:
    """PyTorch is not imported: the package without it can evaluate."""
    vocab = Vocab.from_text(TEXT)
    weights = Weights.random(ModelConfig(vocab_size=vocab.vocab_size, **TINY))
    write_checkpoint(tmp_path / "m.safetensors", weights, vocab)
    (tmp_path / "fox.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "-more.txt").write_text("Ω" * 10, encoding="utf-8")
    (tmp_path / "torch.py").write_text("raise ImportError('no PyTorch here')", encoding="utf-8")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, check=False, capture_output=True, text=True
        )

    files = ["fox.txt", "-more.txt"]
    result = run("knock_training.evaluate", "m.safetensors", "--unknown=replace", "--", *files)
    expected = run("knock", "score", "--held-out", "-m", "m.safetensors", "--unknown=replace", "--", *files)
    assert (result.returncode, result.stdout, result.stderr) == (0, expected.stdout, expected.stderr)
    assert "block 256" in result.stdout
    failed = run("knock_training.evaluate", "none", "fox.txt")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("knock: error: no model named 'none'")
