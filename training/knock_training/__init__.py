"""Train knock models with PyTorch: a differentiable twin of the model, the trainer and the evaluation.

`knock_training.train` trains a model from Python, and `knock_training.Interrupted` has the one of a run that Ctrl-C
stopped; importing the package alone does not import PyTorch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knock_training.library import Interrupted as Interrupted
    from knock_training.library import train as train

__all__ = ["Interrupted", "train"]  # imported on first use

# Bound the time that PyTorch's threads spin before they sleep. OpenMP reads these variables once, when PyTorch is
# imported. By default the threads spin for milliseconds, which on a shared machine keeps the core from the threads they
# wait for. Not spinning at all would be slower on an idle machine: in models as small as knock's, waking a thread takes
# longer than most operations. Variables that the user has set take precedence.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # GNU OpenMP: about 100 microseconds
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM and Intel OpenMP: milliseconds


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'knock_training' has no attribute {name!r}")
    try:
        from knock_training import library
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from knock.errors import missing_package

        raise missing_package("training", "PyTorch", "train") from None
    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted(__all__)
