"""Trained models that ship with knock, each with a model card, and the lookup of models by name or path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from knock.errors import CheckpointError
from knock.hints import suggestion
from knock.validation import shown

DEFAULT = "shakespeare-small"
SAFETENSORS, NPZ = ".safetensors", ".npz"
SUFFIXES = (SAFETENSORS, NPZ)


def shipped() -> dict[str, Path]:
    """Return the files of the shipped models, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob(f"*{SAFETENSORS}"))}


def locate(model: str | os.PathLike[str]) -> Path:
    """Return the model file of a shipped name, a path or a folder that holds one model.

    Raises:
        CheckpointError: if there is no such model.
    """
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise CheckpointError(f"a model must be a name or a path, got {shown(model)}; the default is {DEFAULT!r}")
    by_name = shipped()
    if str(model) in by_name:
        return by_name[str(model)]
    path = Path(model)
    try:
        found = path.exists()
    except (OSError, ValueError) as error:  # a name too long, an inaccessible folder, a NUL
        raise CheckpointError(f"cannot look for a model at {str(path)[:60]!r}: {error}; check the path") from error
    if path.is_dir():
        files = sorted(file for suffix in SUFFIXES for file in path.glob(f"*{suffix}"))
        if len(files) != 1:
            raise CheckpointError(
                f"the folder {str(path)!r} must hold exactly one {' or '.join(SUFFIXES)} file, got {len(files)}; "
                "pass the file itself"
            )
        return files[0]
    if not found:
        close = _suggestion(str(model), list(by_name))
        raise CheckpointError(
            f"no model named {str(model)!r}: it is neither a file nor a shipped model ({', '.join(by_name) or 'none'})"
            + (f"; did you mean {close}?" if close else "")
        )
    return path


def _suggestion(name: str, known: Sequence[str]) -> str | None:
    """Return the shipped model that a name may stand for: one misspelt, or the last part of one, such as `nano`."""
    parts = {each.rpartition("-")[2]: each for each in known}
    close = suggestion(name.lower(), [*known, *parts])
    return parts.get(close, close) if close else None
