"""What all benchmarks share: the engine of the example shape."""

from __future__ import annotations

import pytest

from knock.engine import Engine
from tests.cases import EXAMPLE, random_weights


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The example shape with random weights, on NumPy."""
    return Engine(random_weights(EXAMPLE, 0, scale=0.1))
