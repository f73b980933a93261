"""The errors knock raises on purpose.

Every message says what was expected, what was found and what to do. The command line prints it as one line.
"""

from __future__ import annotations


class KnockError(Exception):
    """Base class of every error that knock raises on purpose."""


class ConfigError(KnockError, ValueError):
    """A model that cannot be built, or a recipe that cannot be followed: a setting out of range."""


class VocabError(KnockError, ValueError):
    """Characters or token ids that a vocabulary does not have."""


class WeightsError(KnockError, ValueError):
    """Arrays that do not fit the configuration they come with."""


class SamplingError(KnockError, ValueError):
    """Sampling controls outside their range, or at odds with each other."""


class CheckpointError(KnockError):
    """A model file that cannot be read or written: missing, cut, altered, or not a model at all."""


class TextError(KnockError):
    """A text that cannot be read: missing, empty, too short, or not UTF-8."""


class PromptError(KnockError):
    """A line of a file of prompts that cannot be used."""


class OutputError(KnockError):
    """A file of generated texts that cannot be written or gone on with."""


class GenerationError(KnockError):
    """Generation that cannot go on: the model's logits are not finite numbers."""

    @classmethod
    def not_finite(cls, step: int) -> GenerationError:
        """The error of one step."""
        return cls(f"the model's logits at step {step} are not finite numbers; its weights are too large to run")


class TrainingError(KnockError):
    """Training that cannot start or go on."""
