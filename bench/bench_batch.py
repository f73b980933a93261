"""Benchmarks of batches: prompts in, texts out, and the kernels alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.turns import seconds, take_turns
from knock import LanguageModel, Prompt, ReweightGPT, Sampling, Vocab
from knock.choices import DEFAULT_PRECISION, PRECISIONS, Precision
from knock.engine.batch import Request
from tests.cases import EXAMPLE, random_weights

SIZES = (1, 8, 64, 256, 1024)
ROWS, LENGTH = 256, 256
ROUNDS, ROUNDS_OF_MANY = 9, 5  # the latter for the largest size
MANY, SHORT = 1_000_000, 64
# Runs between this process and the command: the peak memory of a process includes what it used before exec.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
CHARACTERS = [chr(ord("0") + i) for i in range(EXAMPLE.vocab_size)]


@cache
def language_model(precision: Precision) -> LanguageModel:
    """Return the example shape with random weights."""
    weights = random_weights(EXAMPLE, 0, scale=0.1)
    gpt = ReweightGPT.from_weights(weights, backend="compiled", precision=precision)
    return LanguageModel(gpt, Vocab(CHARACTERS))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", SIZES)
def bench_batch(benchmark: BenchmarkFixture, rows: int, threads: int) -> None:
    """Generate texts of 256 characters in every precision, by number of texts and of threads."""
    lengths = [LENGTH] * rows
    models = {precision: language_model(precision) for precision in PRECISIONS}

    def once() -> dict[str, float]:
        return {
            precision: seconds(lambda lm=lm: write_texts(lm, lengths, threads=threads)) / (rows * LENGTH)
            for precision, lm in models.items()
        }

    take_turns(benchmark, once, ROUNDS_OF_MANY if rows == SIZES[-1] else ROUNDS)


@pytest.mark.parametrize("length", [32, 4096])
def bench_batch_length(benchmark: BenchmarkFixture, length: int) -> None:
    """Generate the same number of characters in shorter or longer texts."""
    texts(benchmark, [length] * (ROWS * LENGTH // length))


def bench_batch_ragged(benchmark: BenchmarkFixture) -> None:
    """Generate texts of 16 to 512 characters, uniformly distributed."""
    texts(benchmark, np.random.default_rng(0).integers(16, 513, ROWS).tolist())


def bench_batch_prompts(benchmark: BenchmarkFixture) -> None:
    """Generate texts from different prompts of 64 characters."""
    rng = np.random.default_rng(0)
    texts(benchmark, [LENGTH] * ROWS, prompts=["".join(rng.choice(CHARACTERS, 64)) for _ in range(ROWS)])


def bench_batch_stop(benchmark: BenchmarkFixture) -> None:
    """Generate texts with a stop string that does not occur."""
    texts(benchmark, [LENGTH] * ROWS, stop="0123456789")


@pytest.mark.parametrize("threads", [1, 2])
def bench_batch_kernels(benchmark: BenchmarkFixture, threads: int) -> None:
    """Generate the same rows as token ids, without text or statistics."""
    engine, start, sampling = language_model(DEFAULT_PRECISION).model.engine, np.zeros(1, np.int32), Sampling()
    requests = [Request(start, sampling, None, LENGTH, i) for i in range(ROWS)]
    benchmark.extra_info.update(unit="tokens", count=ROWS * LENGTH)
    rows = benchmark(engine.run, requests, 0, threads=threads)
    assert (rows.lengths == LENGTH).all()


@pytest.mark.skipif(sys.platform == "win32", reason="needs the POSIX call for a process' peak memory")
def bench_command(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Write a million texts to a file with the command; record its peak memory and the size of the file."""
    count, out = MANY if benchmark.enabled else 1000, tmp_path / "texts.jsonl"
    arguments = ["sample", "ROMEO:", "--model", "shakespeare-hybrid", "--count", str(count), "--length", str(SHORT),
                 "--seed", "7", "--out", str(out)]  # fmt: skip

    def once() -> float:
        command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "knock", *arguments]
        return float(subprocess.check_output(command)) * (1 if sys.platform == "darwin" else 1024)

    memory = benchmark.pedantic(once)
    benchmark.extra_info.update(unit="characters", count=count * SHORT, memory=memory, size=out.stat().st_size)


def texts(
    benchmark: BenchmarkFixture,
    lengths: Sequence[int],
    *,
    prompts: Sequence[str] | None = None,
    stop: str | None = None,
) -> None:
    """Measure a batch from prompts to texts on two threads, in the default precision."""
    benchmark.extra_info.update(unit="characters", count=sum(lengths))
    benchmark(write_texts, language_model(DEFAULT_PRECISION), lengths, prompts=prompts, stop=stop, threads=2)


def write_texts(
    lm: LanguageModel,
    lengths: Sequence[int],
    *,
    threads: int,
    prompts: Sequence[str] | None = None,
    stop: str | None = None,
) -> None:
    """Generate texts of given lengths, from prompts of one character if none are given."""
    prompts = prompts or ["0"] * len(lengths)
    each = [Prompt(text, max_new_tokens=length) for text, length in zip(prompts, lengths, strict=True)]
    rows = lm.generate_batch(each, stop=stop, threads=threads)
    assert [len(row.text) for row in rows] == list(lengths)
