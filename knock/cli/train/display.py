"""Show the progress of `knock train`, live on a terminal or as plain lines."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.train.curve import loss_curve, painted
from knock.cli.train.metrics import Metrics, TensorBoard
from knock.cli.ui.terminal import is_live, printable

if TYPE_CHECKING:
    from rich.text import Text

    from knock.cli.train.messages import Messages
    from knock.vocab import Vocab
    from knock.weights import Weights
    from knock_training.progress import Progress
    from knock_training.trainer import Activity

_SAMPLE_LENGTH = 160
_SAMPLING = 0.05  # largest share of the time to spend on samples
_IN_LOG, _IN_LOG_LINES = 200, 2  # characters and lines of a sample that is not overwritten by the next
_IN_PICTURE_LINES = 8
_MARGIN = "    | "
_WORSE = 3  # evaluations without a lower validation loss before the user is warned
_REFRESH = 0.25  # seconds
_HEIGHT = 10  # lines of the curve
_LOWEST = 4  # a curve of fewer lines is not worth showing


class Display(AbstractContextManager["Display"]):
    """Progress display and metrics files of a run; a context manager.

    Args:
        options: the command's options: `metrics`, `tensorboard`, `resume`, `force`.
        vocab: the model's vocabulary, to decode samples.
        messages: prints lines.

    Raises:
        KnockError: if a file cannot be written, or TensorBoard is missing.
    """

    def __init__(self, options: argparse.Namespace, vocab: Vocab, messages: Messages) -> None:
        self._vocab = vocab
        self._messages = messages
        self._files: list[Metrics | TensorBoard] = [
            *([TensorBoard(options.tensorboard)] if options.tensorboard else []),
            *([Metrics(Path(options.metrics), options)] if options.metrics else []),
        ]
        self._evaluations = self._worse = 0
        self._lowest = self._loss_at_lowest = float("inf")
        self._warned: set[str] = set()
        self._live: Any = None
        self._next = 0.0
        self._progress: Progress | None = None  # the latest
        self._sample = ""
        self._started, self._sampling = time.monotonic(), 0.0  # seconds spent on samples
        if is_live():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            with self._terminal_may_close():
                self._live.start()
                messages.beat = self._draw

    def __exit__(self, *exception: object) -> None:
        self.close()
        for file in self._files:
            file.close()

    def close(self) -> None:
        """End the live display, leaving its last frame on the terminal."""
        with self._messages.lock:
            self._messages.doing(None)
            if self._live is not None:
                with contextlib.suppress(OSError):
                    self._draw()  # without a sign of life
                    self._live.stop()
                self._live = None

    @contextlib.contextmanager
    def _terminal_may_close(self) -> Iterator[None]:
        """Drop the live display if its terminal is closed: the run continues without it."""
        try:
            yield
        except OSError:
            self._live = None

    def doing(self, activity: Activity) -> None:
        """Set what the run does from now on."""
        is_training = activity == "training" and self._live is None
        self._messages.doing(self._status_line if is_training else activity)

    def report(self, progress: Progress) -> None:
        """Show progress and write it to the metrics files."""
        for file in self._files:
            file.write(progress)
        self._progress = progress
        if progress.weights is not None:
            is_renewed = self._renew_sample(progress)
            if self._live is None:
                self._messages.say("\n".join([self._status_line(), *(_in_log(self._sample) if is_renewed else [])]))
            self._evaluated(progress)
        if self._live is not None and (progress.weights is not None or time.monotonic() >= self._next):
            self._next = time.monotonic() + _REFRESH
            with self._messages.lock:
                self._messages.shown()
                self._draw()

    def _evaluated(self, progress: Progress) -> None:
        """Warn the user if the losses are not as they should be."""
        assert progress.validation_loss is not None
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
        if kind not in self._warned:
            self._warned.add(kind)
            self._messages.say(message)  # the live display shows what is printed above itself

    def _renew_sample(self, progress: Progress) -> bool:
        """Write a sample at an evaluation, unless evaluations follow each other too fast; return whether it is new."""
        started = time.monotonic()
        is_last = progress.step == progress.steps
        if not is_last and self._sampling > _SAMPLING * (started - self._started):
            return False
        assert progress.weights is not None
        self._sample = self._write(progress.weights)
        self._sampling += time.monotonic() - started
        return True

    def _write(self, weights: Weights) -> str:
        """Return a sample of the model's text."""
        from knock.gpt import ReweightGPT
        from knock.language_model import LanguageModel

        model = LanguageModel(ReweightGPT.from_weights(weights, backend="numpy"), self._vocab)
        return model.generate(max_new_tokens=_SAMPLE_LENGTH, temperature=0.8, seed=self._evaluations).text

    def _status(self) -> list[str]:
        """Return the fields of the status line."""
        if self._progress is None:
            return ["training: the first step"]
        progress = self._progress
        step = f"step {progress.step:>{len(f'{progress.steps:,}')},}/{progress.steps:,}"
        fields = [step, f"loss {progress.loss:.4f}"]
        if progress.validation_loss is not None and self._live is None:
            fields.append(f"validation {progress.validation_loss:.4f}")
        if progress.best_loss != float("inf") and self._live is not None:
            fields.append(f"best {progress.best_loss:.4f}")
        return [*fields, f"{progress.chars_per_second:,.0f} chars/s", f"{_clock(progress.seconds_left)} left"]

    def _status_line(self) -> str:
        return "  ".join(self._status())

    def _draw(self, sign_of_life: str = "") -> None:
        """Redraw the live display."""
        if self._live is not None:
            with self._terminal_may_close():
                self._live.update(self._picture(sign_of_life), refresh=True)

    def _picture(self, sign_of_life: str) -> Any:
        """Return a frame: curve, status and sample, in fewer lines than the terminal has.

        A frame that is as high as the terminal would scroll it, and leave its first lines behind.
        """
        from rich.console import Group
        from rich.text import Text

        width, height = self._live.console.size
        width -= 1
        status = _fitted(self._status(), width) if self._progress is not None else []
        left = max(0, height - len(status) - 2)  # without the cursor's line and a sign of life
        sample = self._boxed_sample(width)[: max(min(_IN_PICTURE_LINES, left - _LOWEST - 1), min(2, left))]
        rows = min(_HEIGHT, left - len(sample) - 1)
        curve = ""
        if self._progress is not None and rows >= _LOWEST:
            curve = loss_curve(self._progress.curve, self._progress.steps, width, rows)
        below = [*status, *([sign_of_life] if sign_of_life else [])][: max(1, height - 1)]
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in below]
        return Group(*([painted(curve)] if curve else []), *lines, *sample)

    def _boxed_sample(self, width: int) -> list[Text]:
        """Return the lines of the sample, folded to the width."""
        from rich.text import Text

        console = self._live.console
        return [
            Text(_MARGIN, no_wrap=True, overflow="ellipsis").append_text(part)
            for line in self._sample.strip("\n").split("\n")
            for part in Text(printable(line), overflow="fold").wrap(console, max(2, width - len(_MARGIN)))
            if self._sample
        ]


def _in_log(sample: str) -> list[str]:
    """Return the beginning of a sample as lines of a log; empty lines are left out."""
    lines = [printable(line) for line in sample.split("\n") if line.strip()]
    shown, left = [], _IN_LOG
    for line in lines[:_IN_LOG_LINES]:
        if left > 0:
            shown.append(_MARGIN + (line if len(line) <= left else f"{line[: left - 1]}…"))
            left -= len(line)
    return shown


def _fitted(fields: list[str], width: int) -> list[str]:
    """Join fields to lines that fit a width; no field is split."""
    lines = fields[:1]
    for field in fields[1:]:
        longer = f"{lines[-1]}  {field}"
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(field)
    return lines


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"
