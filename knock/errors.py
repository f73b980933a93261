"""The exceptions of knock.

A message says what was expected, what was given and how to fix it. The command line prints it as one line.
"""

from __future__ import annotations

import sys
import warnings


class KnockError(Exception):
    """Base class of all exceptions that knock raises deliberately."""


class ConfigError(KnockError, ValueError):
    """A setting of a model's config or a training recipe is out of range."""


class VocabError(KnockError, ValueError):
    """A character or token id is not in the vocabulary, or a vocabulary is invalid."""


class UnknownCharacterError(VocabError):
    """A text has a character that the model does not know.

    Args:
        problem: the character, where it is, and what the model knows.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.advice("unknown='skip'", "unknown='replace'")

    def advice(self, skip: str, replace: str) -> str:
        """Return the message with the ways to skip or replace such characters, as the user would write them."""
        return f"{self.problem}. Remove it, or choose {skip} or {replace}"


class WeightsError(KnockError, ValueError):
    """Arrays do not match their config."""


class SamplingError(KnockError, ValueError):
    """A sampling control is out of range, or two controls exclude each other."""


class CheckpointError(KnockError):
    """A model file cannot be read or written: it is missing, truncated, altered, or not a model."""


class TextError(KnockError):
    """A text cannot be read: it is missing, empty, too short, or not UTF-8."""


class PromptError(KnockError):
    """A prompt file, or a line of it, is invalid."""


class OutputError(KnockError):
    """An output file cannot be written or resumed."""


class SchemaError(KnockError, ValueError):
    """The schema of a table is invalid, or does not fit what it is used for."""


class GenerationError(KnockError):
    """Generation failed: the model's logits are not finite."""

    @classmethod
    def not_finite(cls, step: int) -> GenerationError:
        """Return the error for logits that are not finite at `step`."""
        return cls(f"the model's logits at step {step} are not finite; its weights are too large, retrain it")


class TooFewError(GenerationError):
    """Fewer texts passed the filters than were wanted.

    Attributes:
        items: the texts that passed.
        wanted: the number that was wanted.
        summary: how many texts were drawn, and why the others were dropped.
    """

    def __init__(self, items: list[str], wanted: int, summary: str) -> None:
        super().__init__(items, wanted, summary)
        self.items, self.wanted, self.summary = items, wanted, summary

    def __str__(self) -> str:
        return f"got {len(self.items):,} of {self.wanted:,} texts: {self.summary}; relax the filters, or raise tries"


class TrainingError(KnockError):
    """Training cannot start or continue."""


def missing_package(purpose: str, package: str, extra: str) -> KnockError:
    """Return the error for an optional package that is not installed.

    The hint names no package index: knock is installed from a clone.

    Args:
        purpose: what needs the package.
        package: its name.
        extra: the extra of knock that installs it.
    """
    return KnockError(
        f"{purpose} needs {package}, which is not installed; in a clone of knock, run: pip install '.[{extra}]'"
    )


def warn(message: str) -> None:
    """Warn the caller of the library; the command line prints the message as one line."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "knock":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
