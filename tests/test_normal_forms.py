"""Tests of Unicode normal forms: what a vocabulary knows only in the other form."""

from __future__ import annotations

import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Vocab
from knock.errors import VocabError
from knock.generation.scoring import Scorer
from knock.language_model import LanguageModel, load
from knock.normal_forms import unbroken

WORDS = ["café", "Å", "Việt Nam", "한국어", "naïve Ωμέγα", "ক্ষো"]
ACUTE = "\u0301"


def converted(form: str) -> str:
    return f"only in Unicode normal form {form}; they were converted"


def encoded(vocab: Vocab, text: str, form: str, **options: str) -> str:
    with pytest.warns(UserWarning, match=converted(form)):
        return vocab.decode(vocab.encode(text, **options))


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize(("known", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_other_form_is_used(text: str, known: str, other: str) -> None:
    vocab = Vocab.from_text(expected := unicodedata.normalize(known, text))
    given = unicodedata.normalize(other, text)
    if set(given) <= set(expected):
        pytest.skip("the vocabulary knows both forms")
    assert encoded(vocab, given, known) == expected


def test_canonical_equivalents_and_lower_case() -> None:
    assert encoded(Vocab("Ω "), "\u2126 Ω", "NFC") == "Ω Ω"  # OHM SIGN
    assert encoded(Vocab("cé", lowercase=True), f"CE{ACUTE}", "NFC") == "cé"


def test_known_characters_are_never_converted() -> None:
    vocab = Vocab(f"eé{ACUTE}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vocab.decode(vocab.encode(f"e{ACUTE}é")) == f"e{ACUTE}é"


def test_the_rest_is_still_unknown() -> None:
    """The error has the offset in the text as given, and skipping leaves the converted part."""
    vocab = Vocab("cafeé ?")
    text = f"cafe{ACUTE} x{ACUTE}"
    with pytest.raises(VocabError, match=r"'x' .* at offset 6;"), pytest.warns(UserWarning, match=converted("NFC")):
        vocab.encode(text)
    assert encoded(vocab, text, "NFC", unknown="skip") == "café "
    assert encoded(vocab, text, "NFC", unknown="replace") == "café ??"
    offsets, changes = vocab.examine(text)
    assert offsets.tolist() == [6, 7]
    assert [(change.start, change.end, change.text) for change in changes] == [(3, 5, "é")]


@given(st.lists(st.text("ae\n" + ACUTE + "\u0323한\u11ab", max_size=4)))
def test_pieces_never_begin_with_a_mark(pieces: list[str]) -> None:
    result = list(unbroken(pieces))
    assert "".join(result) == "".join(pieces)
    assert all(result)
    assert all(piece[0] not in f"{ACUTE}\u0323\u11ab" for piece in result[1:])
    assert "".join(unicodedata.normalize("NFC", piece) for piece in result) == unicodedata.normalize(
        "NFC", "".join(pieces)
    )


@pytest.fixture(scope="module")
def accented() -> LanguageModel:
    """A shipped model whose j, x and z are é, ê and a combining mark below."""
    model = load("shakespeare-nano", backend="numpy")
    characters = "".join(model.vocab.characters).translate(str.maketrans("jxz", "éê\u0323"))
    return LanguageModel(model.model, Vocab(characters))


def test_prompt_in_the_other_form(accented: LanguageModel) -> None:
    expected = accented.generate("café", max_new_tokens=20, seed=1)
    with pytest.warns(UserWarning, match=converted("NFC")):
        result = accented.generate(f"cafe{ACUTE}", max_new_tokens=20, seed=1)
    assert result.text == expected.text
    with pytest.warns(UserWarning, match=converted("NFC")):
        (row,) = accented.generate_batch([f"cafe{ACUTE}"], max_new_tokens=20, seed=1)
    assert row.text == accented.generate_batch(["café"], max_new_tokens=20, seed=1)[0].text


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_score_of_the_other_form(accented: LanguageModel, size: int) -> None:
    """Its surprise counts at the first character; byte-order marks are skipped; the total is that of the known form."""
    text = f"\ufeffThe cafe{ACUTE} of the fe\u0302te \ufeffê"
    expected = accented.score("The café of the fête ê")
    scorer = Scorer("it", accented.model.engine, accented.vocab, "error")
    with pytest.warns(UserWarning, match=converted("NFC")):
        parts = [scorer.feed(piece) for piece in unbroken(text[i : i + size] for i in range(0, len(text), size))]
    bits = np.concatenate(parts)
    assert [text[i] for i in np.flatnonzero(np.isnan(bits))] == ["\ufeff", ACUTE, "\u0302", "\ufeff"]
    assert np.allclose(bits[~np.isnan(bits)], -expected.log_probs / np.log(2))
    assert (scorer.chars, scorer.marks) == (22, 2)
    with pytest.raises(VocabError, match=rf"unknown character 'ß' .* at offset {len(text) + 2};"):
        scorer.feed("\ufeff.ß")


def test_score_of_a_character_that_is_two(accented: LanguageModel) -> None:
    """The model knows ạ as a and a mark below: the surprise of ạ is the sum of theirs."""
    expected = accented.score("bạd").log_probs / -np.log(2)
    scorer = Scorer("it", accented.model.engine, accented.vocab, "error")
    with pytest.warns(UserWarning, match=converted("NFD")):
        bits = scorer.feed("bạd")
    assert np.allclose(bits, [expected[0], expected[1] + expected[2], expected[3]])
    assert scorer.chars == 4
