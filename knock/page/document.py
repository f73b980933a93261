"""The page of a model: what it says about the model and a text, and the HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knock.page.bundle import FOLDER, bundle
from knock.page.terms import page_terms
from knock.page.weights import page_model
from knock.words import counted, listed

if TYPE_CHECKING:
    from knock.language_model import LanguageModel

LONGEST_TEXT = 4096  # characters that a page shows at first
_SHELL, _SCRIPT, _STYLE = FOLDER / "page.html", FOLDER / "ui" / "main.js", FOLDER / "page.css"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a page shows first.

    Attributes:
        text: The text, as the model reads it; if empty, the model writes one.
        source: Where the text comes from, in a sentence; may be empty.
        headline: Headline of the page; None for the name of the model.
        title: Title of the page; None for the headline.
        char: A character: the patterns of the heads where it is read are shown, too.
    """

    text: str = ""
    source: str = ""
    headline: str | None = None
    title: str | None = None
    char: str | None = None


def document(lm: LanguageModel, name: str, opening: Opening | None = None, *, file: str | None = None) -> bytes:
    """Return the page of a model, in UTF-8.

    Args:
        lm: the model.
        name: what the page calls it.
        opening: what the page shows first.
        file: how a command names the model; None for the name.
    """
    opening = opening or Opening()
    headline = opening.headline or name
    page = {
        "title": opening.title or f"{headline} · knock",
        "headline": headline,
        "about": _about(lm, name if headline != name else ""),
        "source": opening.source,
        "text": opening.text,
        "char": opening.char,
        "model": file or name,
        "fileName": f"{name}.txt",
        "corpus": {"characters": _of_corpus(lm.training, "characters", int)},
        "terms": page_terms(lm.model.config, has_boundary=lm.vocab.has_boundary),
    }
    data = {"model": page_model(lm, name), "page": page}
    return bundle(_SHELL.read_text(encoding="utf-8"), [_SCRIPT], styles=[_STYLE], data=data)


def beginning(text: str, source: str) -> tuple[str, str]:
    """Return as much of a text as a page shows, and a sentence that says what it is.

    Args:
        text: the text.
        source: where it comes from, such as the name of a file.
    """
    if len(text) <= LONGEST_TEXT:
        return text, f"The text is {source}, {counted(len(text), 'character')}."
    return text[:LONGEST_TEXT], f"The text is the first {LONGEST_TEXT:,} of {len(text):,} characters of {source}."


def _about(lm: LanguageModel, name: str) -> str:
    """Return a line about the model, with its name if that is not empty."""
    config = lm.model.config
    kinds = listed(dict.fromkeys(config.head_types))
    corpus = _of_corpus(lm.training, "name", str)
    parts = [
        f"{f'{name}, a' if name else 'A'} character-level language model that runs in this page",
        f"{lm.model.weights.n_parameters:,} numbers in {counted(config.n_blocks, 'block')} of "
        f"{counted(config.n_heads, f'{kinds} head')}",
        f"it sees the last {counted(config.receptive_field, 'character')}",
    ]
    return "; ".join([*parts, *([f"trained on {corpus}"] if corpus else [])]) + "."


def _of_corpus(training: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return what a training record says about its corpus, None if it says nothing of that type."""
    corpus = training.get("corpus")
    value = corpus.get(name) if isinstance(corpus, Mapping) else None
    return value if isinstance(value, kind) else None
