"""Files that `knock train` writes losses and speed to: JSON lines, and TensorBoard's event logs."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.terminal import is_stream
from knock.errors import KnockError, TrainingError
from knock.files.output import check_free

if TYPE_CHECKING:
    from knock_training.progress import Progress

_START = b'{"step": '  # start of a line of metrics
_EVERY = 10  # steps


class Metrics:
    """A file of metrics, one JSON object per line."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self._path = path
        self._is_empty = True  # so far
        try:
            is_device = is_stream(str(path))
            if not is_device:
                check_free(path, force=options.resume or options.force)
            self._is_new = not path.exists()
            mode = "w" if is_device or options.force else "x+" if self._is_new else "r+"
            self._file = path.open(mode, encoding="utf-8", newline="\n")
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from error
        self._ends = self._line_ends() if mode == "r+" else None

    def _line_ends(self) -> list[tuple[int, int]]:
        """Return the step and end offset of each line; a truncated last line is left out.

        Raises:
            TrainingError: if the file was not written by `--metrics`.
        """
        ends, end = [], 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            end += len(line)
            try:
                if not line.startswith(_START[: len(line)]):
                    raise ValueError
                if line.endswith(b"\n"):
                    ends.append((int(json.loads(line)["step"]), end))
            except (ValueError, KeyError, TypeError):
                self.close()
                raise TrainingError(
                    f"{str(self._path)!r} was not written by --metrics, so it is left unchanged; choose another name"
                ) from None
        return ends

    def write(self, progress: Progress) -> None:
        """Write a line at every evaluation and every `_EVERY` steps."""
        try:
            if self._is_empty and self._ends is not None:
                # A resumed run repeats the steps after its saved state: drop their lines.
                self._file.seek(max((end for step, end in self._ends if step < progress.step), default=0))
                self._file.truncate()
            self._is_empty = False
            if progress.validation_loss is not None or progress.step % _EVERY == 0:
                names = ("step", "loss", "validation_loss", "learning_rate", "chars_per_second", "seconds")
                self._file.write(json.dumps({name: getattr(progress, name) for name in names}) + "\n")
                if progress.validation_loss is not None:
                    self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        """Close the file; remove it if it is new and empty."""
        with contextlib.suppress(OSError):
            self._file.close()
            if self._is_new and self._is_empty:
                self._path.unlink()


class TensorBoard:
    """A TensorBoard event log."""

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise KnockError(
                "--tensorboard needs TensorBoard, which is not installed; run: pip install tensorboard"
            ) from error
        try:
            self._writer: Any = SummaryWriter(folder)
        except OSError as error:
            raise _unwritable(Path(folder), error) from error

    def write(self, progress: Progress) -> None:
        """Add the losses, learning rate and speed of a step."""
        add = self._writer.add_scalar
        if progress.validation_loss is not None:
            add("loss/validation", progress.validation_loss, progress.step)
        if progress.validation_loss is not None or progress.step % _EVERY == 0:
            add("loss/training", progress.loss, progress.step)
            add("learning rate", progress.learning_rate, progress.step)
            add("characters per second", progress.chars_per_second, progress.step)

    def close(self) -> None:
        """Flush and close the log."""
        self._writer.close()


def _unwritable(path: Path, error: Exception) -> TrainingError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return TrainingError(f"cannot write {str(path)!r}: {reason}; choose another location")
