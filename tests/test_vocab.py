import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Vocab
from knock.errors import VocabError

CHARACTERS = st.characters(exclude_categories=("Cs",))
TEXTS = st.text(CHARACTERS, min_size=1)


@given(TEXTS)
def test_decode_inverts_encode(text: str) -> None:
    vocab = Vocab.from_text(text)
    tokens = vocab.encode(text)
    assert tokens.dtype == np.int32
    assert tokens.shape == (len(text),)
    assert vocab.decode(tokens) == text


@given(TEXTS)
def test_token_ids_are_code_point_order(text: str) -> None:
    vocab = Vocab.from_text(text)
    assert list(vocab.characters) == sorted(set(text))
    assert vocab.vocab_size == len(vocab) == len(set(text))


@given(TEXTS, st.booleans())
def test_json_round_trip(text: str, lowercase: bool) -> None:
    vocab = Vocab.from_text(text, lowercase=lowercase)
    assert Vocab.from_json(vocab.to_json(), lowercase=lowercase) == vocab


@given(TEXTS, TEXTS)
def test_unknown_characters(known: str, text: str) -> None:
    vocab = Vocab.from_text(known + "?")
    unknown = [i for i, char in enumerate(text) if char not in vocab]
    assert vocab.decode(vocab.encode(text, unknown="skip")) == "".join(c for c in text if c in vocab)
    assert vocab.decode(vocab.encode(text, unknown="replace")) == "".join(c if c in vocab else "?" for c in text)
    if unknown:
        with pytest.raises(VocabError, match=f"offset {unknown[0]};"):
            vocab.encode(text)


def test_unknown_character_error_names_it() -> None:
    with pytest.raises(VocabError, match=r"'é' \(U\+00E9\) at offset 3; the model knows 4 characters: 'acf\?'"):
        Vocab("acf?").encode("caf" + "é")


def test_replacement_given_or_by_default() -> None:
    assert Vocab("ab").decode(Vocab("ab").encode("axb", unknown="replace", replacement="b")) == "abb"
    assert Vocab("ab ").decode(Vocab("ab ").encode("axb", unknown="replace")) == "a b"
    assert Vocab("ab").decode(Vocab("ab").encode("axb", unknown="replace")) == "aab"
    with pytest.raises(VocabError, match="replacement"):
        Vocab("ab").encode("axb", unknown="replace", replacement="c")
    with pytest.raises(VocabError, match="error, skip, replace"):
        Vocab("ab").encode("axb", unknown="ignore")


def test_lowercase_keeps_offsets() -> None:
    vocab = Vocab.from_text("Straße İ", lowercase=True)
    assert "S" not in vocab
    assert vocab.decode(vocab.encode("STRAßE İ")) == "straße İ"  # İ is two characters in lower case, so it stays
    with pytest.raises(VocabError, match=r"'X' .* at offset 2"):
        vocab.encode("trX")


def test_start_is_a_newline_if_known() -> None:
    assert Vocab("\t\na").start_id == 1
    assert Vocab("ab").start_id == 0


def test_empty_text_and_tokens() -> None:
    assert Vocab("a").encode("").shape == (0,)
    assert Vocab("a").decode([]) == ""


@pytest.mark.parametrize(
    ("characters", "says"),
    [("", "at least one"), ("aba", "'a' twice"), (["ab"], "single"), ([1], "single"), ("\ud800", "surrogate")],
)
def test_invalid_vocabulary_is_rejected(characters: object, says: str) -> None:
    with pytest.raises(VocabError, match=says):
        Vocab(characters)


@pytest.mark.parametrize("text", [None, b"a", ["a"], 1])
def test_other_types_than_text_are_rejected(text: object) -> None:
    with pytest.raises(VocabError, match="a text must be a string"):
        Vocab("abc").encode(text)
    with pytest.raises(VocabError, match="a text must be a string"):
        Vocab.from_text(text)


def test_lowercase_vocabulary_with_upper_case_is_rejected() -> None:
    with pytest.raises(VocabError, match="lower-case"):
        Vocab("aB", lowercase=True)


@pytest.mark.parametrize("text", ["{}", "nonsense", '["a", 1]', '["a", "a"]', "[]"])
def test_invalid_json_is_rejected(text: str) -> None:
    with pytest.raises(VocabError):
        Vocab.from_json(text)


@pytest.mark.parametrize("tokens", [[3], [-1], [0.5], [[0, 1]], [[0], [1, 2]], ["a"], 1, None])
def test_invalid_tokens_are_rejected(tokens: object) -> None:
    with pytest.raises(VocabError):
        Vocab("abc").decode(tokens)
