"""The n-gram yardstick against its definition, and all of them on texts whose entropy is known."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from knock_training.yardsticks import ngram_bits, yardsticks


def definition(train: list[int], text: list[int], V: int, order: int) -> float:
    """Return the bits per token of interpolated Kneser-Ney smoothing, by counting in dictionaries."""

    def padded(tokens: list[int], at: int, n: int) -> tuple[int, ...]:
        return tuple(tokens[max(i, 0)] for i in range(at - n + 1, at + 1))

    counts = {order: Counter(padded(train, i, order) for i in range(len(train)))}
    for n in range(order - 1, 0, -1):
        counts[n] = Counter(gram[1:] for gram in counts[n + 1])
    total, kinds = defaultdict(int), defaultdict(int)
    for n, grams in counts.items():
        for gram, count in grams.items():
            total[gram[:-1], n] += count
            kinds[gram[:-1], n] += 1
    bits = 0.0
    for i in range(len(text)):
        p = 1 / V
        for n in range(1, order + 1):
            gram = padded(text, i, n)
            if total[gram[:-1], n]:
                discounted = max(counts[n][gram] - 0.75, 0)
                p = (discounted + 0.75 * kinds[gram[:-1], n] * p) / total[gram[:-1], n]
        bits -= math.log2(p) / len(text)
    return bits


@pytest.mark.parametrize("order", [1, 2, 4])
def test_ngram_equals_its_definition(order: int) -> None:
    rng = np.random.default_rng(order)
    train, text = rng.integers(0, 5, 300), rng.integers(0, 5, 60)
    assert ngram_bits(train, text, 5, order=order) == pytest.approx(definition(train.tolist(), text.tolist(), 5, order))


def test_a_uniform_text_has_its_entropy() -> None:
    rng = np.random.default_rng(0)
    train, text = rng.integers(0, 4, 60_000), rng.integers(0, 4, 6000)
    assert ngram_bits(train, text, 4, order=2) == pytest.approx(2, abs=0.01)
    assert all(2 < bits < 2.6 for bits in yardsticks(train, text, 4)[1:])


def test_no_ngram_reaches_across_a_boundary() -> None:
    """Items whose first character repeats the last one of the item before, which cannot be known."""
    rng = np.random.default_rng(1)
    chars = rng.integers(0, 4, 20_000)
    items = np.column_stack([chars[:-1], chars[1:], np.full(len(chars) - 1, 4)]).ravel()
    train, text = items[:54_000], items[54_000:]
    crossing = ngram_bits(train, text, 5, order=4)
    apart = ngram_bits(train, text, 5, order=4, boundary=4)
    assert crossing < 1
    assert apart == pytest.approx(4 / 3, abs=0.02)


def test_an_empty_text_has_no_loss() -> None:
    nothing = np.empty(0, np.int64)
    assert all(map(math.isnan, yardsticks(np.arange(9), nothing, 10)))
