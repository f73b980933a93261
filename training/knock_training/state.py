"""State files, from which a training run resumes as if it had never stopped.

A state file is a line, `knock run 5 SHA256`, followed by the output of `torch.save` and checked against that digest.
PyTorch itself does not detect flipped bits.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knock.errors import TrainingError
from knock.files.output import write_whole
from knock.validation import shown

_MAGIC = b"knock run "
_FORMAT = b"5"
_RESTART = "start a new run: pass --force instead of --resume, or another --out"
_OPTIONS = ("config", "recipe")  # whose fields are named as such: their names are distinct
# A full disk or quota, or a file larger than allowed. Windows has no quotas.
_NO_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}


def state_path(model: str | os.PathLike[str]) -> Path:
    """Return the path of the state file of a model: `NAME.run` in the same folder."""
    path = Path(model)
    return path.with_name(path.name + ".run")


def write_state(path: Path, what: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state file atomically: after a crash, the file has either the old content or the new.

    Args:
        path: state file.
        what: JSON-serialisable dict that identifies the run.
        state: tensors, numbers and strings, nested in dicts and lists.

    Raises:
        TrainingError: if the file cannot be written.
    """
    import torch

    temporary = path.with_name(f"{path.name}.tmp")  # overwrites a leftover of a killed process
    content = io.BytesIO()  # errors of writing a file are not reported clearly by torch.save
    torch.save((dict(what), dict(state)), content)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    head = _MAGIC + _FORMAT + b" " + digest.encode() + b"\n"
    try:
        write_whole(path, head + content.getvalue(), temporary=temporary)
    except OSError as error:
        remedy = "make room" if error.errno in _NO_ROOM else "check its folder"
        then = "pass --resume to continue from the state before" if path.is_file() else "start the run again"
        raise TrainingError(f"cannot write {str(path)!r}: {_reason(error)}; {remedy} and {then}") from error


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a state file and return the dict that identifies the run, and the state.

    Raises:
        TrainingError: if the file is missing, damaged or not a state file.
    """
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise TrainingError(f"no run to resume: {str(path)!r} does not exist; start the run without --resume") from None
    except OSError as error:
        raise TrainingError(f"cannot read {str(path)!r}: {_reason(error)}; check the path") from error
    if not head.startswith(_MAGIC):
        raise TrainingError(f"{str(path)!r} is not the state of a training run; {_RESTART}")
    form, _, digest = head.removeprefix(_MAGIC).partition(b" ")
    if form != _FORMAT:
        raise TrainingError(f"{str(path)!r} was written by another version of knock; {_RESTART}")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise TrainingError(f"{str(path)!r} is damaged: its checksum does not match; {_RESTART}")
    import torch  # takes seconds to import, and `state_path` does not need it

    what, state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return what, state


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    """Check that a state file belongs to this run.

    Args:
        before: identity of the run in the state file.
        now: identity of the current run.
        name: name of the state file.

    Raises:
        TrainingError: if the runs differ. The message lists the first differences.
    """
    flat_before, flat_now = _flat(before), _flat(now)
    names = [key for key in {**flat_before, **flat_now} if flat_before.get(key) != flat_now.get(key)]
    if names:
        changes = [f"{key} was {_shown(flat_before, key)} and is {_shown(flat_now, key)}" for key in names[:5]]
        raise TrainingError(
            f"{name!r} belongs to another run: {', '.join(changes)}; resume with the original settings, or start a "
            "new run"
        )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        prefix = "" if key in _OPTIONS else f"{key} "
        flat |= {prefix + k: v for k, v in _flat(value).items()} if isinstance(value, Mapping) else {key: value}
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    return shown(values.get(key), 80)  # long enough for a digest; a large vocabulary is truncated


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error).splitlines()[0]).lower()
