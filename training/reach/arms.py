"""The models that are compared, in shapes that take about the same time for a character of one text.

`bench/bench_reach.py` measures the times. A content block with a window of 512 costs as much as two reweight blocks, so
its models have a block less and a narrow MLP; "slower" has neither.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

RATES = (0.01, 0.02, 0.04, 0.08)  # learning rates of Muon to choose from
RECIPE = {"steps": 1500, "eval_interval": 500, "precision": "bfloat16", "learning_rate": 0.01}
SEEDS = 5


@dataclass(frozen=True)
class Arm:
    """A kind of model.

    Attributes:
        name: what it is, for the tables.
        shape: fields of the config.
        windows: length of a training sequence in windows.
    """

    name: str
    shape: dict[str, Any]
    windows: int = 4


def _arm(name: str, T: int | list[int], head_type: str | list[str], nodes: int, **more: Any) -> Arm:
    n_blocks = len(T) if isinstance(T, list) else 4
    longest = max(T) if isinstance(T, list) else T
    shape = {"T": T, "head_type": head_type, "n_emb": 64, "nodes": nodes, "n_blocks": n_blocks, "n_heads": 2, **more}
    return Arm(name, shape, 4 if longest < 256 else 2)


REWEIGHT, HYBRID, CONTENT = "reweight", "hybrid", "content"
ARMS = {
    "near": _arm("reweight, T 32", 32, REWEIGHT, 112),
    "hybrid": _arm("hybrid, T 32", 32, HYBRID, 32),
    "far-content": _arm("content block of T 512", [2, 32, 512], [REWEIGHT, REWEIGHT, CONTENT], 32),
    "far-hybrid": _arm("hybrid block of T 512", [2, 32, 512], [REWEIGHT, REWEIGHT, HYBRID], 32, reweight_T=[2, 32, 32]),
    "table": _arm("reweight, T 32, first block of T 2", [2, 32, 32, 32], REWEIGHT, 160),
    "far-reweight": _arm("reweight, last block of T 256", [2, 32, 256], REWEIGHT, 112),
    "slower": _arm("content block of T 512, slower", [2, 32, 32, 512], [REWEIGHT, REWEIGHT, REWEIGHT, CONTENT], 112),
}
BASELINE = "near"


@dataclass(frozen=True)
class Trial:
    """Everything that determines a run.

    Attributes:
        corpus: name of the corpus.
        arm: name of the arm.
        rate: learning rate of Muon.
        seed: seed of the run.
        steps: number of steps.
    """

    corpus: str
    arm: str
    rate: float
    seed: int
    steps: int = RECIPE["steps"]  # type: ignore[assignment]

    @property
    def key(self) -> str:
        """Canonical string, equal for equal trials."""
        return json.dumps(asdict(self), sort_keys=True)
