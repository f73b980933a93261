"""knock: a character-level language model engine for the CPU.

Importing the package is cheap: each public name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knock.config import ModelConfig as ModelConfig
    from knock.errors import CheckpointError as CheckpointError
    from knock.errors import KnockError as KnockError
    from knock.generation.results import Generation as Generation
    from knock.generation.results import Interrupted as Interrupted
    from knock.generation.results import Prompt as Prompt
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
    "Prompt": "knock.generation.results",
    "ReweightGPT": "knock.gpt",
    "Sampling": "knock.sampling",
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
    return sorted([*globals(), *_MODULES])
