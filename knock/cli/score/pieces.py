"""The text of `knock score`, read and scored piece by piece: plain text, or items."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from knock.cli.ui.terminal import END, say
from knock.errors import KnockError, TextError
from knock.words import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from knock.cli.ui.progress import ShareLine
    from knock.files.items import Items
    from knock.generation.scoring import ItemScorer, Scorer

_PIECE = 2**17  # characters scored at a time, to bound memory
_PARTS = {"lines": "line", "paragraphs": "paragraph", "column": "row", "rows": "row"}  # of a file, by kind of item


class Text(NamedTuple):
    """A text to score.

    Attributes:
        chunks: The text in non-empty chunks.
        size: Its size in bytes; 0 if unknown.
        at_least: A lower bound of that size.
        path: Its path; None for standard input.
    """

    chunks: Iterable[str]
    size: int
    at_least: int
    path: Path | None


class Piece(NamedTuple):
    """A piece of the text and the surprise of its characters.

    Attributes:
        text: The piece, as its characters; `END` stands for the end of an item.
        surprise: Surprise in bits for each model, [N] float64; NaN for skipped characters.
    """

    text: Sequence[str]
    surprise: list[npt.NDArray[np.float64]]


def text_at(file: str) -> Text:
    """Return the text of a file, or of standard input if it is `-`."""
    from knock.files.text import read_chunks

    chunks, size = _standard_input() if file == "-" else read_chunks(file), 0
    with contextlib.suppress(OSError, ValueError, AttributeError):  # reading the text reports the error
        status = os.fstat(sys.stdin.fileno()) if file == "-" else Path(file).stat()
        if stat.S_ISREG(status.st_mode):
            size = status.st_size
    path = None if file == "-" else Path(file)
    if size:
        return Text(chunks, size, size, path)
    first = list(itertools.islice(chunks, 2))
    return Text(itertools.chain(first, chunks), 0, sum(len(text.encode()) for text in first), path)


def _standard_input() -> Iterator[str]:
    from knock.files.text import decoded

    try:
        yield from decoded(sys.stdin.buffer, "standard input")
    except (AttributeError, OSError) as error:  # AttributeError: sys.stdin is None
        raise KnockError("cannot read standard input; pass a file as the argument") from error


class _Progress:
    """Progress of all models over a text, on one line.

    Args:
        line: The line.
        size: Size of the text in bytes; 0 if unknown.
        models: Number of models.
    """

    def __init__(self, line: ShareLine, size: int, models: int) -> None:
        self._line = line
        self._size = size
        self._models = models
        self._characters = self._bytes = 0  # of the pieces before
        self._piece = (0, 0)

    def begin(self, characters: int, size: int) -> None:
        """Begin the next piece, with a number of characters and of bytes."""
        self._characters, self._bytes = self._characters + self._piece[0], self._bytes + self._piece[1]
        self._piece = characters, size

    def of_model(self, number: int) -> Callable[[float], None]:
        """Return a function that shows the progress within a piece: the models before this one are done."""

        def show(share: float) -> None:
            of_piece = (number + share) / self._models
            characters, size = self._piece
            if self._size:
                self._line.show(min(1.0, (self._bytes + of_piece * size) / self._size))  # the file may grow
            else:
                self._line.count(self._characters + int(of_piece * characters))

        return show


def pieces_of_text(text: Text, scorers: Sequence[Scorer], *, is_shown: bool) -> Iterator[Piece]:
    """Score a text piece by piece with all models, and show progress.

    Args:
        text: The text.
        scorers: The scorers, one per model.
        is_shown: Whether the pieces are printed, perhaps on the terminal that shows the progress.

    Raises:
        TextError: if the text cannot be read, is not UTF-8, or has no character to score.
        VocabError: at a character that a model does not know, if unknown characters are errors.
    """
    from knock.cli.ui.progress import ShareLine
    from knock.normal_forms import unbroken

    is_empty = True
    parts = (chunk[start : start + _PIECE] for chunk in text.chunks for start in range(0, len(chunk), _PIECE))
    with ShareLine("scored") as line:
        progress = _Progress(line, text.size, len(scorers))
        for part in unbroken(parts):
            is_empty = False
            progress.begin(len(part), len(part.encode()))
            surprise = [scorer.feed(part, progress.of_model(number)) for number, scorer in enumerate(scorers)]
            if is_shown:
                line.clear()
            yield Piece(part, surprise)
    if is_empty:
        raise TextError("the text is empty; there is nothing to score")
    for scorer in scorers:
        if scorer.chars == 0:
            raise TextError(f"the text has no character that {scorer.name!r} knows; there is nothing to score")


def pieces_of_items(text: Text, items: Items, scorers: Sequence[ItemScorer], *, is_shown: bool) -> Iterator[Piece]:
    """Score the items of a text in the same way. Other arguments and the errors are those of `pieces_of_text`.

    Args:
        text: The text. If an item is a part of a table, a file that is none has an item per line.
        items: What an item is.
        scorers: The scorers, one per model.
        is_shown: Whether the pieces are printed.
    """
    from knock.cli.ui.progress import ShareLine
    from knock.files.corpus_files import CorpusFile
    from knock.files.items import TABLES, Items, batches, is_blank

    if items.kind in ("column", "rows") and (text.path is None or text.path.suffix.lower() not in TABLES):
        items = Items(kind="lines")
    is_table = items.kind in ("column", "rows")  # of which the size does not tell the progress
    name = "standard input" if text.path is None else str(text.path)
    shown = name if text.path is None else repr(name)
    blank, names = 0, deque[str]()

    def given() -> Iterator[str]:
        nonlocal blank
        for number, item in enumerate(items.read([CorpusFile(name, lambda: text.chunks, text.path)]), 1):
            if is_blank(item):
                blank += 1
            else:
                names.append(f"{_PARTS[items.kind]} {number:,} of {shown}" if items.kind in _PARTS else shown)
                yield item

    with ShareLine("scored") as line:
        progress = _Progress(line, 0 if is_table else text.size, len(scorers))
        for batch in batches(given(), _PIECE):
            chars = [char for item in batch for char in (*item, END)]
            progress.begin(len(chars), sum(len(item.encode()) + 1 for item in batch))
            own = [names.popleft() for _ in batch]
            surprise = [scorer.feed_items(batch, progress.of_model(k), own) for k, scorer in enumerate(scorers)]
            if is_shown:
                line.clear()
            yield Piece(chars, surprise)
    if blank:
        say(f"knock: skipped {counted(blank, 'blank item')}")
    if scorers[0].items == 0:
        raise TextError("the text has no items; there is nothing to score")
