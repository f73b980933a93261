"""Benchmarks of model files: reading with every check, and writing."""

from __future__ import annotations

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import DEFAULT, shipped


def bench_read(benchmark: BenchmarkFixture) -> None:
    """Read the default model."""
    benchmark.extra_info.update(unit="files", count=1)
    benchmark(read_checkpoint, shipped()[DEFAULT])


def bench_write(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Write the default model to disk."""
    checkpoint = read_checkpoint(shipped()[DEFAULT])
    benchmark.extra_info.update(unit="files", count=1)
    benchmark(write_checkpoint, tmp_path / "m.safetensors", checkpoint.weights, checkpoint.vocab)
