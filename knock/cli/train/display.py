"""Show the progress of `knock train`, live on a terminal or as plain lines, and write metrics files."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.terminal import columns, is_live, is_stream, printable
from knock.errors import KnockError, TrainingError
from knock.files.output import check_free

if TYPE_CHECKING:
    from knock.vocab import Vocab
    from knock.weights import Weights
    from knock_training.run import Progress

_SAMPLE_EVERY = 3  # evaluations
_SAMPLE_LENGTH = 160
_START = b'{"step": '  # start of a line of metrics
_METRICS_EVERY = 10  # steps
_WORSE = 3  # evaluations without a lower validation loss before the user is warned
_REFRESH = 0.25  # seconds
_HEIGHT = 10  # lines of the curve
_LOWEST = 4  # a curve of fewer lines is not worth showing
_AROUND = 4  # caption, status line, first line of the sample and one free line


class Display(AbstractContextManager["Display"]):
    """Progress display and metrics files of a run; a context manager.

    Args:
        options: the command's options: `metrics`, `tensorboard`, `resume`, `force`.
        vocab: the model's vocabulary, to decode samples.
        notify: prints a line.

    Raises:
        KnockError: if a file cannot be written, or TensorBoard is missing.
    """

    def __init__(self, options: argparse.Namespace, vocab: Vocab, notify: Callable[[str], None]) -> None:
        self._vocab = vocab
        self._notify = notify
        self._files: list[_Metrics | _TensorBoard] = [
            *([_TensorBoard(options.tensorboard)] if options.tensorboard else []),
            *([_Metrics(Path(options.metrics), options)] if options.metrics else []),
        ]
        self._evaluations = self._worse = 0
        self._lowest = self._loss_at_lowest = float("inf")
        self._warned: set[str] = set()
        self._live: Any = None
        self._next = 0.0
        self._points: list[tuple[int, float, float | None]] = []  # step, training loss, validation loss
        self._sample = ""
        if is_live():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            with self._terminal_may_close():
                self._live.start()

    def __exit__(self, *exception: object) -> None:
        self.close()
        for file in self._files:
            file.close()

    def close(self) -> None:
        """End the live display, leaving its last frame on the terminal."""
        if self._live is not None:
            live, self._live = self._live, None
            with contextlib.suppress(OSError):
                live.stop()

    @contextlib.contextmanager
    def _terminal_may_close(self) -> Iterator[None]:
        """Drop the live display if its terminal is closed: the run continues without it."""
        try:
            yield
        except OSError:
            self._live = None

    def report(self, progress: Progress) -> None:
        """Show progress and write it to the metrics files."""
        for file in self._files:
            file.write(progress)
        line = (
            f"step {progress.step:>{len(f'{progress.steps:,}')},}/{progress.steps:,}  loss {progress.loss:.4f}"
            f"{{}}  {progress.chars_per_second:,.0f} chars/s  {_clock(progress.seconds_left)} left"
        )
        if progress.weights is not None:
            self._evaluated(progress, line)
        elif not self._points or progress.step - self._points[-1][0] >= max(1, progress.steps // 200):
            self._points.append((progress.step, progress.loss, None))
        if self._live is not None and (progress.weights is not None or time.monotonic() >= self._next):
            self._next = time.monotonic() + _REFRESH
            with self._terminal_may_close():
                self._live.update(self._picture(progress, line), refresh=True)

    def _evaluated(self, progress: Progress, line: str) -> None:
        assert progress.weights is not None
        assert progress.validation_loss is not None
        self._points.append((progress.step, progress.loss, progress.validation_loss))
        message = line.format(f"  validation {progress.validation_loss:.4f}")
        if self._evaluations % _SAMPLE_EVERY == 0:
            self._sample = self._write(progress.weights)
            message += "\n" + _indent(self._sample)
        if self._live is None:
            self._notify(message)
        self._evaluations += 1
        self._worse += 1
        if progress.validation_loss < self._lowest:
            self._lowest, self._loss_at_lowest, self._worse = progress.validation_loss, progress.loss, 0
        is_overfitting = self._worse >= _WORSE and progress.loss < self._loss_at_lowest
        if is_overfitting:
            self._warn(
                f"the model overfits: for {self._worse} evaluations only the training loss has fallen. The best "
                "weights are kept; add text, raise --dropout, use a smaller model, or stop with --patience",
                "overfitting",
            )
        if progress.is_lost:
            self._warn(
                f"the validation loss {progress.validation_loss:.2f} is above that of character frequencies alone, "
                f"{progress.unigram_loss:.2f}; the learning rates are probably too high",
                "lost",
            )

    def _warn(self, message: str, kind: str) -> None:
        """Print a warning, once of each kind."""
        if kind in self._warned:
            return
        self._warned.add(kind)
        if self._live is not None:
            with self._terminal_may_close():
                self._live.console.print(message, markup=False, highlight=False)
        else:
            self._notify(message)

    def _picture(self, progress: Progress, line: str) -> Any:
        from rich.console import Group
        from rich.text import Text

        best = "" if progress.best_loss == float("inf") else f"  best {progress.best_loss:.4f}"
        sample = _indent(self._sample) if self._sample else ""
        height = min(_HEIGHT, self._live.console.height - sample.count("\n") - _AROUND)
        curve = loss_curve(self._points, progress.steps, columns() - 1, height) if height >= _LOWEST else ""
        parts = (curve, line.format(best), sample)
        return Group(*(Text(part, no_wrap=True, overflow="ellipsis") for part in parts if part))

    def _write(self, weights: Weights) -> str:
        from knock.gpt import ReweightGPT
        from knock.language_model import LanguageModel

        model = LanguageModel(ReweightGPT.from_weights(weights, backend="numpy"), self._vocab)
        return model.generate(max_new_tokens=_SAMPLE_LENGTH, temperature=0.8, seed=self._evaluations).text


class _Metrics:
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
        """Write a line at every evaluation and every `_METRICS_EVERY` steps."""
        try:
            if self._is_empty and self._ends is not None:
                # A resumed run repeats the steps after its saved state: drop their lines.
                self._file.seek(max((end for step, end in self._ends if step < progress.step), default=0))
                self._file.truncate()
            self._is_empty = False
            if progress.validation_loss is not None or progress.step % _METRICS_EVERY == 0:
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


class _TensorBoard:
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
        if progress.validation_loss is not None or progress.step % _METRICS_EVERY == 0:
            add("loss/training", progress.loss, progress.step)
            add("learning rate", progress.learning_rate, progress.step)
            add("characters per second", progress.chars_per_second, progress.step)

    def close(self) -> None:
        """Flush and close the log."""
        self._writer.close()


def loss_curve(points: Sequence[tuple[int, float, float | None]], steps: int, width: int, height: int = _HEIGHT) -> str:
    """Plot losses against steps as text: · for training, ● for validation.

    Args:
        points: step, training loss, validation loss or None.
        steps: last step of the axis.
        width: width of the plot, in characters.
        height: lines of the plot without its caption, at least 2.

    Returns:
        The plot; empty if there are no points or the width is too small.
    """
    values = [value for _, *losses in points for value in losses if value is not None]
    label = 7
    across = width - label
    if not values or across < 10:
        return ""
    # The first losses are far above the rest, so the axis covers the lowest nine tenths of the points.
    high, low = sorted(values)[int(0.9 * (len(values) - 1))], min(values)
    span = max(high - low, 0.01)
    cells = [[" "] * across for _ in range(height)]
    for mark, which in (("·", 1), ("●", 2)):
        for point in points:
            value = point[which]
            if value is not None and value <= low + span:
                row = round((low + span - value) / span * (height - 1))
                cells[row][min(across - 1, point[0] * across // (steps + 1))] = mark
    lines = [
        (f"{low + span * (1 - row / (height - 1)):{label - 1}.3f} " if row % 3 == 0 else " " * label) + "".join(line)
        for row, line in enumerate(cells)
    ]
    return "\n".join([*(line.rstrip() for line in lines), " " * label + "nats per character: · training, ● validation"])


def _unwritable(path: Path, error: Exception) -> TrainingError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return TrainingError(f"cannot write {str(path)!r}: {reason}; choose another location")


def _indent(text: str) -> str:
    return "\n".join(f"    | {printable(line)}" for line in text.split("\n"))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"
