"""A session of the REPL: its model, its settings, and the text it wrote last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from knock.choices import Backend
from knock.cli.repl.page import Page
from knock.cli.repl.settings import Settings
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.stats_box import stats_box
from knock.cli.ui.terminal import columns, say
from knock.errors import OutputError, VocabError
from knock.files.output import check_free, write_whole
from knock.generation.results import TextStream
from knock.language_model import load
from knock.validation import shown

_TOLD = 8  # unknown characters in a message
_NAMED = 200  # characters of a path in one


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text that was written.

    Attributes:
        prompt: what it goes on from.
        text: what was generated, as far as it came.
        seed: which repeats it.
    """

    prompt: str
    text: str
    seed: int


class Session:
    """What the lines of a REPL work on.

    Args:
        model: a shipped model, a file or a folder.
        settings: to begin with.
        backend: what runs the model.
        is_terminal: whether texts go to a terminal.

    Attributes:
        name: the model's, as it was given.
        model: the model.
        settings: of the next text.
        last: the text that was written last, None before the first.

    Raises:
        CheckpointError: if the model cannot be loaded.
    """

    def __init__(self, model: str, settings: Settings, *, backend: Backend = "auto", is_terminal: bool = False) -> None:
        self.settings = settings
        self.is_terminal = is_terminal
        self.last: Text | None = None
        self._backend = backend
        self.load(model)

    def load(self, model: str) -> None:
        """Go on with another model.

        Raises:
            CheckpointError: if it cannot be loaded; the one before stays.
        """
        self.model = load(_path(model), backend=self._backend)
        self.name = model

    def write(self, prompt: str, seed: int | None = None) -> None:
        """Generate a text and show it as it comes; its seed and, if they are wanted, its statistics come after it.

        Args:
            prompt: what to go on from.
            seed: of this text; None for what the settings say.

        Raises:
            VocabError: if the model does not know characters of the prompt.
            GenerationError: if the model's logits are not finite; what came before is kept.
            KeyboardInterrupt: after Ctrl-C; what was written by then is kept.
        """
        self._check(prompt)
        settings = self.settings
        stream = self.model.stream(
            prompt,
            max_new_tokens=settings.length,
            sampling=settings.controls(),
            seed=settings.seed if seed is None else seed,
            token_stats=settings.heat,
        )
        page, pieces = self._page(), [""]
        with Interrupts() as interrupts:
            try:
                page.write(prompt)
                for piece in stream:
                    pieces.append(piece)
                    page.write(piece, _surprise(stream, len(piece)) if settings.heat else None)
                    if interrupts.asked:
                        break
            finally:
                self.last = Text(prompt=prompt, text="".join(pieces), seed=stream.seed)
                page.end()
        if settings.stats:
            say(stats_box(stream.stats, columns()))
        stopped = f", stopped after {len(self.last.text):,} characters" if interrupts.asked else ""
        say(f"seed {stream.seed}{stopped}")
        interrupts.check()

    def save(self, file: str, *, force: bool = False) -> Path:
        """Write the last text, prompt and all, to a file; return its path.

        Args:
            file: its name.
            force: whether to overwrite a file that already exists.

        Raises:
            OutputError: if there is no text yet, the file already exists, or it cannot be written.
        """
        path = Path(_path(file))
        named = shown(str(path), _NAMED)
        if self.last is None:
            raise OutputError("there is no text yet; give a prompt first")
        try:
            if path.is_dir():
                raise OutputError(f"{named} is a folder; choose another name")
            check_free(path, force=force)
            write_whole(path, (self.last.prompt + self.last.text).encode())
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise OutputError(f"cannot write {named}: {reason}; choose another name") from error
        return path

    def _check(self, prompt: str) -> None:
        vocab = self.model.vocab
        unknown = sorted({char for char in vocab.normalize(prompt) if char not in vocab})
        if unknown:
            told = ", ".join(map(repr, unknown[:_TOLD]))
            more = f" and {len(unknown) - _TOLD} more" if len(unknown) > _TOLD else ""
            raise VocabError(f"the model does not know {told}{more}; it knows {vocab.describe()}")

    def _page(self) -> Page:
        if not self.settings.heat:
            return Page(self.is_terminal)
        from knock.cli.repl.heat_page import heat_page  # which takes rich

        return heat_page(self.is_terminal)


def _surprise(stream: TextStream, count: int) -> list[float]:
    """The surprise of the last characters that came, which are kept."""
    surprise: list[float] = stream.latest_stats(count).surprise.tolist()
    return surprise


def _path(given: str) -> str:
    return os.path.expanduser(given)  # noqa: PTH111  # this one raises nothing
