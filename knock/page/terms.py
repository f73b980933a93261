"""The words of attention and what they mean, the same in a terminal and on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knock.config import ModelConfig

END_SIGN = "∎"  # of an item, as `knock.cli.ui.terminal` shows it


def attention_terms(config: ModelConfig) -> list[tuple[str, str]]:
    """Return the words that describe the heads of a model and what they mean, in a line each."""
    terms = [("attention", "shares of a head's attention to the characters before, 100% in all")]
    if config.has_reweight:
        terms.append(("reweight", "attention by distance, whatever stands there: a learned pattern"))
    if config.has_content:
        terms.append(("content", "attention by likeness of what stands there (query and key)"))
    if config.has_hybrid:
        terms.append(("gate", "share of reweight against content: 1 is only reweight, 0 only content"))
    return [*terms, ("distance", "mean number of characters back; 1 is the last one read")]


def page_terms(config: ModelConfig, *, has_boundary: bool) -> list[tuple[str, str]]:
    """Return these words, those of the parts of a model, of predictions and of drawing a character."""
    terms = [
        ("head", "a part of the model that looks back: it gives each earlier character a share of its attention"),
        ("block", "a layer of heads; each block works with what the block before it found"),
        *attention_terms(config),
        ("surprise", "how unlikely a character was, in bits: 1 bit is a coin toss, 3 bits one of eight"),
        ("entropy", "the surprise to expect of the next character, in bits"),
        ("temperature", "how boldly a character is drawn: below 1, likely ones become likelier; above 1, rare ones"),
        ("top-p", "only the most likely characters are drawn, as many as reach this share together"),
        ("min-p", "only characters are drawn that are at least this share as likely as the first"),
        ("seed", "the number that chance starts from: with the same seed, the same text"),
    ]
    return [*terms, *([(END_SIGN, "the end of the item")] if has_boundary else [])]
