"""The n-gram yardstick against its definition, and all of them on texts whose entropy is known."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from knock_training import yardsticks as module
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
    measured = yardsticks(train, text, 4)
    assert measured is not None
    assert all(2 < bits < 2.6 for bits in (measured.xz, measured.bzip2))


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
    measured = yardsticks(np.arange(9), nothing, 10)
    assert measured is not None
    assert all(map(math.isnan, measured[:3]))
    assert measured[3:] == (9, 0)


@pytest.mark.parametrize("V", [70, 5000])  # keys are numbers, or strings of bytes
def test_a_large_alphabet(V: int) -> None:
    rng = np.random.default_rng(2)
    train, text = (rng.integers(0, 3, size) * (V // 3) for size in (400, 80))
    assert ngram_bits(train, text, V) == pytest.approx(definition(train.tolist(), text.tolist(), V, 6))


def test_parts_of_a_large_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRAIN", 1000)
    monkeypatch.setattr(module, "MAX_HELD_OUT", 100)
    rng = np.random.default_rng(3)
    train, text = rng.integers(0, 4, 5000), rng.integers(0, 4, 500)
    measured = yardsticks(train, text, 4)
    assert measured == yardsticks(train[-1000:], text[:100], 4)
    assert measured is not None
    assert measured[3:] == (1000, 100)


def test_the_part_of_sorted_items_is_spread_over_them() -> None:
    """The items of the first half have another alphabet than those of the second; both are needed."""
    items = np.array([[4, first, first + 2] for first in (0, 1) for _ in range(500)])
    part = module._part(np.append(items.ravel(), 4), 600, 4, from_end=True)
    assert part[::3].tolist() == [4] * 200 or part[-1] == 4
    assert 590 <= len(part) <= 610
    assert set(part.tolist()) == {0, 1, 2, 3, 4}
    assert abs(np.count_nonzero(part == 0) - np.count_nonzero(part == 1)) <= 1


def test_a_time_limit_makes_the_part_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0])  # the trial, 1/32 of the work, takes a second
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(module, "_LEAST", 1000)
    rng = np.random.default_rng(4)
    train, text = rng.integers(0, 4, 6400), rng.integers(0, 4, 640)
    measured = yardsticks(train, text, 4, seconds=17)
    assert measured is not None
    assert measured[3:] == (3200, 320)


def test_too_little_time_gives_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(module, "_LEAST", 1000)
    train = np.random.default_rng(5).integers(0, 4, 6400)
    assert yardsticks(train, train[:640], 4, seconds=2) is None


def test_the_order_of_items_does_not_help_a_compressor() -> None:
    """A sorted list of random items, of which every tenth is held out, compresses no better than a shuffled one."""
    rng = np.random.default_rng(3)
    items = sorted(rng.integers(0, 9, 6).tolist() for _ in range(20_000))

    def bits(order: list[list[int]]) -> float:
        train, text = ([token for item in part for token in [9, *item]] for part in (order[1::2], order[::2]))
        return yardsticks(np.array([*train, 9]), np.array([*text, 9]), 10, boundary=9).xz

    mixed = [items[i] for i in rng.permutation(len(items))]
    assert bits(items) == pytest.approx(bits(mixed), rel=0.02)
