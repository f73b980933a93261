"""Evaluate a finished model, in the engine that will run it.

`python -m knock_training.evaluate MODEL CORPUS...` is `knock score --held-out CORPUS... --model MODEL`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from knock.choices import UNKNOWN
from knock.engine.engine import Engine
from knock.generation import evaluation
from knock.generation.evaluation import BLOCK, MAX_CHARACTERS, as_record
from knock.generation.loss import Loss
from knock.weights import Weights

__all__ = ["BLOCK", "MAX_CHARACTERS", "Loss", "as_record", "evaluate"]


def evaluate(
    weights: Weights,
    tokens: npt.ArrayLike,
    *,
    boundary: int | None = None,
    seconds: float | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Loss]:
    """Return the losses of `knock.generation.evaluation.evaluate`.

    Args:
        weights: the model.
        tokens: text, or items, [N].
        boundary: the boundary of items; None for plain text.
        seconds: approximate time limit. If the text takes longer, only its beginning is evaluated.
        progress: called with the share of the work done so far.

    Raises:
        TextError: if there are fewer than two tokens.
        GenerationError: if the logits of a position are not finite.
    """
    return evaluation.evaluate(
        Engine(weights), np.asarray(tokens), boundary=boundary, seconds=seconds, progress=progress
    )


def main(arguments: list[str] | None = None) -> int:
    """Run `knock score --held-out`."""
    from knock.cli.main import main as knock

    parser = argparse.ArgumentParser(prog="python -m knock_training.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="name of a shipped model, or a model file or folder")
    parser.add_argument("corpus", nargs="+", help="UTF-8 files, as in training; the last 10%% of the text is evaluated")
    parser.add_argument("--unknown", choices=UNKNOWN, default="error", help="how to handle unknown characters")
    options = parser.parse_args(arguments)
    named = [f"--model={options.model}", f"--unknown={options.unknown}"]
    return knock(["score", "--held-out", *named, "--", *options.corpus])


if __name__ == "__main__":
    sys.exit(main())
