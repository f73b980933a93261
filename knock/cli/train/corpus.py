"""What `knock train` says about its corpus."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from knock.cli.ui.terminal import printable
from knock.words import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from knock.config import ModelConfig
    from knock_training.data import Corpus

_TINY = 20_000  # characters
_FEW_ITEMS = 30  # different ones
_STRANGE = 0.2  # nats/char; the parts of a novel, a play or a program differ by less
_MIN_COUNTS = (2, 3, 5, 10, 20, 50, 100)  # those that are recommended
_MAX_LOST = 0.01  # share of the text that a recommended minimum count leaves out,
_MAX_LOST_BY_TWO = 0.25  # unless it is 2
_MANY = 500  # characters worth leaving out
_DONE = {"skip": "skipped", "replace": "replaced"}


def facts(corpus: Corpus, length: int) -> Iterator[str]:
    """Yield the lines that describe a corpus.

    Args:
        corpus: the corpus.
        length: length of a training sequence.
    """
    text, distinct = corpus.text, len(corpus.vocab.characters)
    size = f"{len(corpus):,} characters, "
    if text.items is not None:
        size = f"{counted(text.train_items + text.held_out_items, 'item')}, {size}ends included, "
    yield f"{printable(corpus.name)}: {size}{distinct:,} distinct, in sequences of {length}"
    if corpus.schema is not None:  # so that a file without a header does not go unnoticed
        from knock.files.tables import listed

        names = [column["name"] for column in corpus.schema["columns"]]
        yield printable(f"{counted(len(names), 'column')}: {listed(names)}")
    if text.empty_count:
        yield f"dropped empty items: {text.empty_count:,}"
    if text.items is not None and text.different_items < _FEW_ITEMS:
        yield (
            f"the corpus has only {text.different_items} different items, so the held-out ones, which are never "
            "trained on, say little about the others"
        )
    if text.marks:
        yield f"dropped byte-order marks (U+FEFF) inside the text: {text.marks:,}"
    if text.unknown_count:
        share = text.unknown_count / (len(corpus) + (text.unknown_count if text.unknown == "skip" else 0))
        what = f"unknown characters: {text.unknown_count:,}"
        if text.min_count > 1:
            rare, all_ = len(text.occurrences) - distinct, len(text.occurrences)
            what = f"characters that occur fewer than {text.min_count:,} times: {rare:,} of {all_:,} distinct ones, "
            what += f"{text.unknown_count:,} in all"
        yield f"{_DONE[text.unknown]} {what}, {share:.2%} of the text"
    if text.split.how == "end" and len(corpus) >= _TINY:
        from knock.files.split import strangeness

        difference = strangeness(text.train, text.held_out, corpus.vocab.vocab_size)
        if abs(difference) > _STRANGE:
            yield (
                "the last 10%, which is held out, is another kind of text than the rest: the characters differ by "
                f"{abs(difference):.2f} nats/char from those of blocks spread over the text, which --validation blocks "
                "holds out"
            )
    if len(corpus) < _TINY:
        yield f"the corpus is small, so the model may overfit; {5 * _TINY:,} characters or more work better"


def long_items(corpus: Corpus, config: ModelConfig) -> str:
    """Return the notice that items are longer than what the model sees at once, or "" if they are not."""
    seen, longest = config.receptive_field, corpus.text.longest
    if longest < seen:
        return ""
    return f"the longest item has {longest:,} characters; the model sees at most {seen:,} at once, its receptive field"


def advice(corpus: Corpus, config: ModelConfig) -> str:
    """Return the notice that recommends `--min-count`, or "" if the vocabulary is not too large for the model.

    Args:
        corpus: the corpus, whose vocabulary was built from it.
        config: the model's shape.
    """
    from knock.weights import shapes

    parameters = sum(math.prod(shape) for shape in shapes(config).values())
    share = 2 * config.vocab_size * config.n_emb / parameters  # embedding and output
    occurrences = corpus.text.occurrences
    min_count = recommended_min_count(occurrences)
    if share < 0.5 or min_count is None or corpus.text.min_count > 1:
        return ""
    rare = occurrences[occurrences < min_count]
    return (
        f"{share:.0%} of the parameters belong to the vocabulary, and {len(rare):,} of its {len(occurrences):,} "
        f"characters occur fewer than {min_count} times, {rare.sum() / occurrences.sum():.2%} of the text; "
        f"--min-count {min_count} leaves them out"
    )


def recommended_min_count(occurrences: npt.NDArray[np.int64]) -> int | None:
    """Return a minimum count that leaves out many characters but little of the text; None if there is none.

    Args:
        occurrences: how often each distinct character occurs, [K].
    """
    best, most = None, _MANY - 1
    for min_count in _MIN_COUNTS:
        rare = occurrences[occurrences < min_count]
        lost = rare.sum() / occurrences.sum()
        if len(rare) > most and lost <= (_MAX_LOST_BY_TWO if min_count == 2 else _MAX_LOST):
            best, most = min_count, len(rare)
    return best
