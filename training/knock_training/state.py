"""The state of a training run in a file, from which it can be gone on with as if it had never stopped.

The file is a line, `knock run 3 SHA256`, and what `torch.save` made, of which that is the digest: PyTorch itself takes
a file with altered bits for a whole one.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knock.errors import TrainingError
from knock.validation import shown

_MAGIC = b"knock run "
_FORMAT = b"3"


def state_path(model: str | os.PathLike[str]) -> Path:
    """Where the state of the run lies that makes a model: `NAME.run` beside it."""
    path = Path(model)
    return path.with_name(path.name + ".run")


def write_state(path: Path, what: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state, whole or not at all: whatever happens, there is the old file or the new one.

    Args:
        path: the file.
        what: which run it is of, as JSON can hold it.
        state: tensors, numbers and strings, nested in dicts and lists.

    Raises:
        TrainingError: if it cannot be written.
    """
    import torch

    temporary = path.with_name(f"{path.name}.tmp")  # one that a killed process left is written over
    content = io.BytesIO()  # PyTorch makes something unreadable of what goes wrong while it writes to a file
    torch.save((dict(what), dict(state)), content)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    try:
        with temporary.open("wb") as file:
            file.write(_MAGIC + _FORMAT + b" " + digest.encode() + b"\n")
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise TrainingError(f"cannot write {str(path)!r}: {_reason(error)}; make room, and resume the run") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Which run a state is of, and the state.

    Raises:
        TrainingError: if there is none, or it is not whole.
    """
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise TrainingError(f"there is no run to go on with: {str(path)!r} is not there; leave --resume out") from None
    except OSError as error:
        raise TrainingError(f"cannot read {str(path)!r}: {_reason(error)}; check the path") from error
    if not head.startswith(_MAGIC):
        raise TrainingError(f"{str(path)!r} is no state of a training run, or of an old one; start the run anew")
    form, _, digest = head.removeprefix(_MAGIC).partition(b" ")
    if form != _FORMAT:
        raise TrainingError(f"{str(path)!r} is of another version of knock; start the run anew")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise TrainingError(f"{str(path)!r} is damaged: its digest is another; start the run anew")
    import torch  # which takes seconds: where a state lies can be asked without it

    what, state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return what, state


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    """Refuse to go on with another run.

    Raises:
        TrainingError: it names what differs.
    """
    flat_before, flat_now = _flat(before), _flat(now)
    names = [key for key in {**flat_before, **flat_now} if flat_before.get(key) != flat_now.get(key)]
    if names:
        told = ", ".join(f"{key} was {_shown(flat_before, key)} and is {_shown(flat_now, key)}" for key in names[:5])
        raise TrainingError(f"{name!r} is of another run: {told}; resume it as it was begun, or start anew")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f"{key} {k}": v for k, v in _flat(value).items()} if isinstance(value, Mapping) else {key: value}
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    return shown(values.get(key), 80)  # a digest fits, a vocabulary of thousands does not


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error).splitlines()[0]).lower()
