"""The page of a model: what it says about the model and a text, and the HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knock.page.bundle import FOLDER, bundle
from knock.page.weights import page_model
from knock.words import counted, listed

if TYPE_CHECKING:
    from knock.config import ModelConfig
    from knock.language_model import LanguageModel

_END_SIGN = "∎"


def document(
    lm: LanguageModel,
    name: str,
    *,
    command_name: str | None = None,
    text: str = "",
    source: str = "",
    title: str | None = None,
    char: str | None = None,
) -> bytes:
    """Return the page of a model in UTF-8.

    Args:
        lm: the model.
        name: what the page calls it.
        command_name: how commands name it; None if that is the same.
        text: the text to show first, as the model reads it; if empty, the model writes one.
        source: where the text comes from, in a sentence.
        title: title of the page; None for the name.
        char: a character; the patterns of the heads where it is read are shown, too.
    """
    config = lm.model.config
    page = {
        "title": title or f"{name} · knock",
        "headline": name,
        "about": _about(lm),
        "source": source,
        "text": text,
        "char": char,
        "model": command_name or name,
        "fileName": f"{name}.txt",
        "corpus": {"characters": _corpus_characters(lm.training)},
        "terms": terms(config, has_boundary=lm.vocab.has_boundary),
    }
    shell = (FOLDER / "page.html").read_text(encoding="utf-8")
    data = {"model": page_model(lm, name), "page": page}
    return bundle(shell, [FOLDER / "ui" / "main.js"], styles=[FOLDER / "page.css"], data=data)


def terms(config: ModelConfig, *, has_boundary: bool) -> list[tuple[str, str]]:
    """Return the words of an inspection and what they mean, in a line each."""
    words = [("attention", "shares of a head's attention to the characters before, 100% in all")]
    if config.has_reweight:
        words.append(("reweight", "attention by distance, whatever stands there: a learned pattern"))
    if config.has_content:
        words.append(("content", "attention by likeness of what stands there (query and key)"))
    if config.has_hybrid:
        words.append(("gate", "share of reweight against content: 1 is only reweight, 0 only content"))
    words.append(("distance", "mean number of characters back; 1 is the last one read"))
    words.append(("surprise", "how unlikely a character was, in bits: 1 bit is a coin toss, 3 bits one of eight"))
    words.append(("entropy", "the surprise to be expected of the next character, in bits"))
    return [*words, *([(_END_SIGN, "the end of the item")] if has_boundary else [])]


def _about(lm: LanguageModel) -> str:
    """Return one line about the model."""
    config = lm.model.config
    kinds = listed(dict.fromkeys(config.head_types))
    heads = f"{counted(config.n_blocks, 'block')} of {counted(config.n_heads, f'{kinds} head')}"
    size = f"{lm.model.weights.n_parameters:,} numbers"
    learned = _corpus_name(lm.training)
    return (
        f"A character-level language model, running in this page: {size}, {heads}; it sees the last "
        f"{counted(config.receptive_field, 'character')}{learned and f'; trained on {learned}'}."
    )


def _corpus_name(training: Mapping[str, Any]) -> str:
    corpus = training.get("corpus")
    name = corpus.get("name") if isinstance(corpus, Mapping) else None
    return name if isinstance(name, str) else ""


def _corpus_characters(training: Mapping[str, Any]) -> int | None:
    corpus = training.get("corpus")
    count = corpus.get("characters") if isinstance(corpus, Mapping) else None
    return count if isinstance(count, int) else None
