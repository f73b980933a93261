"""Write the web page of `inspect`: the page of the model, which begins with the inspected text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knock.cli.page import file_name
from knock.cli.ui.terminal import printable
from knock.page.document import Opening, document

if TYPE_CHECKING:
    from knock.language_model import LanguageModel


def page(model: LanguageModel, path: Path, text: str, source: str, name: str, char: str | None) -> bytes:
    """Return the page in UTF-8.

    Args:
        model: the model.
        path: its file.
        text: the text, as the model reads it.
        source: where the text comes from, in a sentence.
        name: the text in a word or two, at the beginning of headline and title.
        char: the character given by `--char`, if any.
    """
    of_model = printable(path.stem)
    headline = f"{name}, read by {of_model}"
    opening = Opening(text=text, source=source, headline=headline, title=f"{headline} · knock inspect", char=char)
    return document(model, of_model, opening, file=file_name(path))
