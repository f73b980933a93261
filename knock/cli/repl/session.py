"""A session of the REPL: its model, its settings and the last text."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knock.choices import DEFAULT_PRECISION, Backend, Precision
from knock.cli.repl.page import Page
from knock.cli.repl.settings import CONSTRAINTS, Settings
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.stats_box import ENDED_BY, stats_box
from knock.cli.ui.terminal import columns, say
from knock.errors import OutputError, UnknownCharacterError, VocabError
from knock.files.output import check_free, write_whole
from knock.generation.constraints.constraint import NO_CONSTRAINT, compile_constraint
from knock.generation.results import TextStream
from knock.language_model import load
from knock.sampling import Stats
from knock.validation import shown

if TYPE_CHECKING:
    from knock.cli.repl.picking import Picking

_MAX_PATH = 200  # characters of a path shown in a message


@dataclass(frozen=True, kw_only=True)
class Text:
    """A generated text.

    Attributes:
        prompt: The prompt.
        text: The generated text, without the prompt; incomplete if it was interrupted.
        seed: The seed that reproduces it.
    """

    prompt: str
    text: str
    seed: int


class Session:
    """State of the REPL.

    Args:
        model: Name of a shipped model, or path of a file or folder.
        settings: Initial settings.
        backend: Backend that runs the models.
        precision: Precision of the models.
        is_terminal: Whether texts are written to a terminal.

    Attributes:
        name: Name or path of the model, as given.
        model: The model.
        settings: Settings of the next text.
        last: The last text; None before the first.
        picking: The text that the user is writing with the model; None if there is none.
        refused: The last line, if it looked like a command and was not used as a prompt; otherwise None.

    Raises:
        CheckpointError: if the model cannot be loaded.
    """

    def __init__(
        self, model: str, settings: Settings, *, backend: Backend = "auto", precision: Precision = DEFAULT_PRECISION,
        is_terminal: bool = False,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.is_terminal = is_terminal
        self.last: Text | None = None
        self.picking: Picking | None = None
        self.refused: str | None = None
        self._backend, self._precision = backend, precision
        self.load(model)

    def load(self, model: str) -> None:
        """Switch to another model.

        Raises:
            CheckpointError: if the model cannot be loaded; the current model is kept.
        """
        self.model = load(_path(model), backend=self._backend, precision=self._precision)
        self.name = model

    @property
    def has_items(self) -> bool:
        """Whether the model is one of items, whose texts end by themselves."""
        return self.model.vocab.has_boundary

    def change(self, **changes: Any) -> None:
        """Change settings.

        Raises:
            SamplingError: if one is out of range, or no text of the model would match; the settings are kept.
        """
        settings = replace(self.settings, **changes)
        if settings.constraint != NO_CONSTRAINT and changes.keys() & {*CONSTRAINTS, "length"}:
            compiled = compile_constraint(self.model.constrained(settings.constraint), (), self.model.vocab)
            compiled.begin(np.empty(0, np.int32), settings.length)
        self.settings = settings

    def write(self, prompt: str, seed: int | None = None) -> None:
        """Generate a text and print it as it is generated, followed by its seed and, if enabled, its statistics.

        Args:
            prompt: The prompt.
            seed: Seed of this text; if None, that of the settings.

        Raises:
            VocabError: if the prompt has characters that the model does not know.
            GenerationError: if the model's logits are not finite; the text so far is kept as `last`.
            KeyboardInterrupt: after Ctrl-C; the text so far is kept as `last`.
        """
        settings = self.settings
        stream = self._stream(prompt, settings.seed if seed is None else seed)
        page, pieces = self.page(), [""]
        with Interrupts() as interrupts:
            try:
                page.begin(prompt)
                for piece in stream:
                    pieces.append(piece)
                    page.write(piece, _surprise(stream, len(piece)) if settings.heat else None)
                    if interrupts.asked:
                        break
            finally:
                self.last = Text(prompt=prompt, text="".join(pieces), seed=stream.seed)
                page.end()
        self._conclude(stream.stats, stream.finish_reason, is_stopped=interrupts.asked)
        interrupts.check()

    def _stream(self, prompt: str, seed: int | None) -> TextStream:
        settings = self.settings
        try:
            return self.model.stream(
                prompt,
                max_new_tokens=settings.length,
                sampling=settings.controls(),
                seed=seed,
                unknown=settings.unknown,
                token_stats=settings.heat,
                **{name: getattr(settings, name) for name in CONSTRAINTS},
            )
        except UnknownCharacterError as error:
            hint = "; /escapes on makes \\n a newline" if "\\" in prompt and not settings.escapes else ""
            raise VocabError(error.advice("/unknown skip", "/unknown replace") + hint) from error

    def _conclude(self, stats: Stats, finish_reason: str | None, *, is_stopped: bool) -> None:
        """Print the statistics of the text, in a box or a line, and its seed."""
        end = ENDED_BY.get(finish_reason or "", "")
        if self.has_items and finish_reason == "length":
            end = "cut by /len"
        end_of_line = "item ended" if finish_reason == "end" else end
        count, seed = stats["tokens"], f"seed {stats['seed']}"
        characters = f"{count:,} character{'s' * (count != 1)}"
        if self.settings.stats:
            say(stats_box(stats, columns(), ending=[("Ended by:", end)] if end else []), is_essential=True)
        if self.settings.stats or not self.is_terminal:
            say(f"{seed}, stopped after {characters}" if is_stopped else seed, style="dim")
        else:
            bits = [f"{stats['mean_surprise']:.2f} bits"] if count else []
            said = ("stopped after " * is_stopped + characters, end_of_line, *bits, seed)
            say(", ".join(filter(None, said)), style="dim")

    def save(self, file: str, *, force: bool = False) -> Path:
        """Save the last text, including its prompt, to a file; return the path.

        Args:
            file: Path of the file; `~` is expanded.
            force: Whether to overwrite an existing file.

        Raises:
            OutputError: if there is no text yet, the file already exists, or it cannot be written.
        """
        path = Path(_path(file))
        named = shown(str(path), _MAX_PATH)
        if self.last is None:
            raise OutputError("nothing has been generated yet; enter a prompt first")
        try:
            if path.is_dir():
                raise OutputError(f"{named} is a folder; choose another name")
            check_free(path, force=force)
            write_whole(path, (self.last.prompt + self.last.text).encode())
        except (OSError, ValueError) as error:  # ValueError: NUL in the path
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise OutputError(f"cannot write {named}: {reason}; choose another name") from error
        return path

    def end_picking(self) -> None:
        """End and write the text that the user is writing with the model, if there is one."""
        if self.picking is not None:
            self.picking.end()

    def page(self) -> Page:
        """Return a page for the next text."""
        if not self.settings.heat:
            return Page(self.is_terminal)
        from knock.cli.repl.heat_page import heat_page  # imports rich

        return heat_page(self.is_terminal)


def _surprise(stream: TextStream, count: int) -> list[float]:
    """Return the surprise of the last `count` characters, for a stream with `token_stats=True`."""
    surprise: list[float] = stream.latest_stats(count).surprise.tolist()
    return surprise


def _path(given: str) -> str:
    return os.path.expanduser(given)  # noqa: PTH111  # Path.expanduser raises if there is no home
