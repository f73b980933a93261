"""Tests of what is held out of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.errors import TextError
from knock.files.corpus import TokenizedText
from knock.files.items import Items
from knock.files.split import ItemSplit, Split, held_out_blocks, held_out_length, kept_parts, strangeness
from tests.files.test_items import items_of

WORDS = st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=4), min_size=2, max_size=60)
SEEDS = st.integers(0, 2**64 - 1)


def sides(items: list[str], seed: int) -> tuple[list[str], list[str]]:
    corpus = TokenizedText.from_items(items, "x", split=Split(how="items", seed=seed))
    return items_of(corpus.train, corpus.vocab), items_of(corpus.held_out, corpus.vocab)


# Items


@given(WORDS, SEEDS, st.randoms())
def test_order_does_not_matter(items: list[str], seed: int, random: object) -> None:
    if len(set(items)) < 2:
        return
    shuffled = list(items)
    random.shuffle(shuffled)
    assert [sorted(side) for side in sides(items, seed)] == [sorted(side) for side in sides(shuffled, seed)]


@given(WORDS, SEEDS)
def test_equal_items_are_on_the_same_side(items: list[str], seed: int) -> None:
    if len(set(items)) < 2:
        return
    train, held_out = sides(items, seed)
    assert set(train).isdisjoint(held_out)
    assert train
    assert held_out
    assert sorted(train + held_out) == sorted(items)


@given(SEEDS)
def test_other_items_do_not_matter(seed: int) -> None:
    """An item keeps its side when others come and go, as long as there are enough of them."""
    items = [f"{i}" for i in range(300)]
    of_all, of_half = set(sides(items, seed)[1]), set(sides(items[:150], seed)[1])
    assert of_half == of_all & set(items[:150]) or not of_all & set(items[:150])


def test_about_a_tenth_is_held_out() -> None:
    items = [f"item {i}" for i in range(20_000)]
    shares = [len(sides(items, seed)[1]) / len(items) for seed in range(5)]
    assert all(0.09 < share < 0.11 for share in shares)  # five standard deviations
    held_out = [set(sides(items, seed)[1]) for seed in (0, 1)]
    assert len(held_out[0] & held_out[1]) < 0.02 * len(items)  # the seed chooses others


def test_choice_is_the_same_for_ever() -> None:
    """A model's record names a seed: what it held out must not change with the version."""
    choice = ItemSplit(42)
    assert [i for i in range(40) if choice.holds_out(f"item {i}")] == [4, 5, 14, 15, 17, 29, 33]


def test_items_are_hashed_as_the_model_reads_them() -> None:
    """Items that differ only in what the model does not see are equal to it."""
    names = [f"Name {i}" for i in range(50)]
    corpus = TokenizedText.from_items(names + [name.upper() for name in names], "x", lowercase=True)
    train, held_out = (items_of(side, corpus.vocab) for side in (corpus.train, corpus.held_out))
    assert set(train).isdisjoint(held_out)


# Plain text


@given(st.integers(0, 200_000), SEEDS)
def test_blocks(length: int, seed: int) -> None:
    blocks = held_out_blocks(length, seed)
    total = sum(end - start for start, end in blocks)
    assert total == Split(how="blocks", seed=seed).held_out_length(length)
    assert abs(total - held_out_length(length)) <= max(128, 0.005 * length)
    assert all((end - start) % 256 == 0 or len(blocks) == 1 for start, end in blocks)
    covered = np.zeros(length, int)
    for start, end in [*blocks, *kept_parts(length, blocks)]:
        covered[start:end] += 1
    assert (covered == 1).all()
    if length > 100_000:  # in every fifth
        fifths = {5 * start // length for start, _ in blocks}
        assert fifths == set(range(5))


def test_blocks_of_a_corpus() -> None:
    text = "".join(f"{i:04}" for i in range(5000))
    corpus = TokenizedText.from_text(text, "x", split=Split(how="blocks", seed=1))
    blocks = held_out_blocks(len(text), 1)
    decode = corpus.vocab.decode
    assert decode(corpus.held_out) == "".join(text[start:end] for start, end in blocks)
    assert decode(corpus.train) == "".join(text[start:end] for start, end in kept_parts(len(text), blocks))
    other = TokenizedText.from_text(text, "x", split=Split(how="blocks", seed=2))
    assert decode(other.held_out) != decode(corpus.held_out)
    assert other.sha256 == corpus.sha256


def test_end_is_the_default() -> None:
    corpus = TokenizedText.from_text("abcdefghij" * 10, "x")
    assert corpus.split == Split(how="end")
    assert corpus.vocab.decode(corpus.held_out) == "abcdefghij"


def test_another_file(tmp_path: Path) -> None:
    train, other = tmp_path / "a.txt", tmp_path / "b.txt"
    train.write_text("abcabc", encoding="utf-8")
    other.write_text("cdé", encoding="utf-8")
    corpus = TokenizedText.read(train, split=Split(how="file", file=str(other)))
    assert (corpus.vocab.decode(corpus.train), corpus.vocab.decode(corpus.held_out)) == ("abcabc", "cdé")
    assert corpus.vocab.characters == tuple("abcdé")
    assert corpus.sha256 == TokenizedText.read(train).sha256
    train.write_text("ab\nab\n", encoding="utf-8")  # items on both sides may be equal, and few
    other.write_text("ab\nc\n", encoding="utf-8")
    corpus = TokenizedText.read(train, items=Items(kind="lines"), split=Split(how="file", file=str(other)))
    assert items_of(corpus.train, corpus.vocab) == ["ab", "ab"]
    assert items_of(corpus.held_out, corpus.vocab) == ["ab", "c"]
    other.write_text("", encoding="utf-8")
    with pytest.raises(TextError, match=r"corpus '.*b.txt' is empty"):
        TokenizedText.read(train, split=Split(how="file", file=str(other)))
    with pytest.raises(TextError, match=r"corpus '.*b.txt' has no items"):
        TokenizedText.read(train, items=Items(kind="lines"), split=Split(how="file", file=str(other)))
    with pytest.raises(TextError, match=r"cannot read '.*none.txt'"):
        TokenizedText.read(train, split=Split(how="file", file=str(tmp_path / "none.txt")))


def test_splits_of_the_wrong_kind() -> None:
    for how in ("end", "blocks"):
        with pytest.raises(TextError, match=f"a corpus of items cannot be split by '{how}'"):
            TokenizedText.from_items(["a", "b"], "x", split=Split(how=how))
    with pytest.raises(TextError, match="a corpus of plain text cannot be split by 'items'"):
        TokenizedText.from_text("abc", "x", split=Split(how="items"))


# Ends that are another text


def test_strangeness_of_the_end() -> None:
    rng = np.random.default_rng(0)
    text = rng.choice(20, 50_000, p=np.arange(1, 21) / 210).astype(np.uint8)
    assert abs(strangeness(text[:45_000], text[45_000:], 20)) < 0.02
    other = text.copy()
    other[45_000:] = 19 - other[45_000:]
    assert strangeness(other[:45_000], other[45_000:], 20) > 0.2
    same = text.copy()
    same[45_000:] = 19
    assert strangeness(same[:45_000], same[45_000:], 20) < -0.2


def test_strangeness_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knock.files.split._AT_ONCE", 7)
    text = [*b"the cat sat on the mat. the dog ate the log."]
    end = len(text) - held_out_length(len(text))

    def loss(blocks: list[tuple[int, int]]) -> float:
        part = [i for start, end in blocks for i in range(start, end)]
        rest = [token for i, token in enumerate(text) if i not in part]
        return float(np.mean([-np.log((rest.count(text[i]) + 1) / (len(rest) + 128)) for i in part]))

    expected = loss([(end, len(text))]) - np.mean([loss(held_out_blocks(len(text), seed)) for seed in range(4)])
    tokens = np.array(text, np.uint8)
    assert strangeness(tokens[:end], tokens[end:], 128) == pytest.approx(expected)
