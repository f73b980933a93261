"""Model files: read with every check, and write."""

from __future__ import annotations

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import DEFAULT, shipped


def bench_read(benchmark: BenchmarkFixture) -> None:
    """The shipped model."""
    benchmark.extra_info.update(unit="files", count=1)
    benchmark(read_checkpoint, shipped()[DEFAULT])


def bench_write(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The same model, onto disk."""
    checkpoint = read_checkpoint(shipped()[DEFAULT])
    benchmark.extra_info.update(unit="files", count=1)
    benchmark(write_checkpoint, tmp_path / "m.safetensors", checkpoint.weights, checkpoint.vocab)
