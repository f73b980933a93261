"""Resume a run of `knock train` under the conditions it began with, so that it ends in the same weights."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knock.errors import TrainingError
from knock.words import counted

State = tuple[dict[str, Any], dict[str, Any]]  # the identity of a run and its state, as `read_state` returns them


def check_is_unfinished(model: Path, state: Path) -> None:
    """Raise unless a run can be resumed, before PyTorch takes seconds to import.

    Raises:
        TrainingError: if there is none; the message says how to train a finished model further.
    """
    if not state.exists() and model.is_file():
        command = ["knock", "train", "CORPUS", "--from", str(model), "--out", f"NEW{model.suffix}"]
        raise TrainingError(
            f"{str(model)!r} has no unfinished run to resume; to train the model further, under a new name, run: "
            f"{shlex.join(command)}"
        )


def restore_conditions(options: argparse.Namespace, environment: Mapping[str, Any]) -> None:
    """Use the threads and the device of the saved run, unless the options say otherwise.

    Raises:
        TrainingError: if the device is not available here.
    """
    import torch

    options.threads = options.threads or environment["threads"]
    if options.device is None:
        options.device = environment["device"]
        if options.device == "cuda" and not torch.cuda.is_available():
            raise TrainingError(
                "the run computed on 'cuda', which is not available here; pass --device cpu to continue it on the CPU"
            )


def resumption(saved: Mapping[str, Any], steps: int) -> str:
    """Return the message about the point at which a run continues."""
    threads = saved["environment"]["threads"]
    as_before = f", with {counted(threads, 'CPU thread')} as before" if threads else ""
    return f"resuming after {saved['numbers']['step']:,} of {counted(steps, 'step')}{as_before}"


def changed_conditions(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return a notice if a run that could be reproduced is resumed under other conditions.

    A run with a time limit, with a number of threads chosen by their speed, or on a GPU is never the same twice.

    Args:
        saved: the state of the run.
        now: the present conditions.
    """
    before = saved["environment"]
    if before["threads"] is None or saved["numbers"]["seconds_left"] is not None:
        return None
    names = {"threads": "CPU threads", "processes": "processes", "device": "device", "processor": "processor",
             "torch": "PyTorch"}  # fmt: skip
    changes = [f"{name}: {now[key]}, was {before[key]}" for key, name in names.items() if now[key] != before[key]]
    if not changes:
        return None
    return f"resuming with {'; '.join(changes)}. The weights will not be exactly those of an uninterrupted run"
