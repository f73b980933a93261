"""knock: a character-level language model engine for the CPU.

Importing the package is cheap: each public name is imported on first use.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knock.config import ModelConfig as ModelConfig
    from knock.errors import CheckpointError as CheckpointError
    from knock.errors import KnockError as KnockError
    from knock.errors import TooFewError as TooFewError
    from knock.generation.results import Generation as Generation
    from knock.generation.results import Interrupted as Interrupted
    from knock.generation.results import Prompt as Prompt
    from knock.generation.results import Score as Score
    from knock.generation.results import TextStream as TextStream
    from knock.generation.search import MostLikely as MostLikely
    from knock.gpt import ReweightGPT as ReweightGPT
    from knock.language_model import LanguageModel as LanguageModel
    from knock.language_model import load as load
    from knock.sampling import Sampling as Sampling
    from knock.vocab import Vocab as Vocab
    from knock.weights import Weights as Weights

__version__ = "0.1.0"

_MODULES = {
    "CheckpointError": "knock.errors",
    "Generation": "knock.generation.results",
    "Interrupted": "knock.generation.results",
    "KnockError": "knock.errors",
    "LanguageModel": "knock.language_model",
    "ModelConfig": "knock.config",
    "MostLikely": "knock.generation.search",
    "Prompt": "knock.generation.results",
    "ReweightGPT": "knock.gpt",
    "Sampling": "knock.sampling",
    "Score": "knock.generation.results",
    "TextStream": "knock.generation.results",
    "TooFewError": "knock.errors",
    "Vocab": "knock.vocab",
    "Weights": "knock.weights",
    "load": "knock.language_model",
}

__all__ = ["__version__", *_MODULES]  # noqa: PLE0604  # the keys are strings


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'knock' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names and the submodules that are imported, for completion and `help`."""
    modules = [
        name
        for name, value in globals().items()
        if isinstance(value, ModuleType) and value.__name__ == f"{__name__}.{name}"
    ]
    return sorted([*__all__, *modules])
