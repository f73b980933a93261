"""`LanguageModel.most_likely`: the most probable whole texts are those that scoring all of them finds."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from knock import LanguageModel, ReweightGPT, Vocab
from knock.errors import SamplingError, VocabError
from knock.generation.search import LikelyText, MostLikely

SHAPE = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2, "seed": 3}
CHARACTERS = "\nabc"


def model(*, boundary: bool, backend: str = "compiled") -> LanguageModel:
    vocab = Vocab(CHARACTERS, boundary=boundary)
    return LanguageModel(ReweightGPT(vocab.vocab_size, backend=backend, **SHAPE), vocab)


PLAIN, ITEMS = model(boundary=False), model(boundary=True)


def every(longest: int) -> list[str]:
    return ["".join(chars) for n in range(longest + 1) for chars in itertools.product(CHARACTERS, repeat=n)]


def log_prob(lm: LanguageModel, text: str, after: str = "") -> float:
    """Return the log-probability of a text after a prompt; of an item with its end."""
    start = [lm.vocab.start_id] if lm.vocab.has_boundary or not after else []
    end = [lm.vocab.boundary] if lm.vocab.has_boundary else []
    tokens = [*start, *lm.vocab.encode(after + text), *end]
    log_probs = lm.model.engine.log_probs(tokens[:-1], tokens[1:])
    return float(log_probs[len(start) + len(after) - 1 :].sum())


def agree(found: MostLikely, expected: dict[str, float]) -> None:
    """Check that texts are the most probable of those expected."""
    best = sorted(expected.values(), reverse=True)[: len(found)]
    assert [each.log_prob for each in found] == pytest.approx(best, abs=1e-4)
    assert len({each.text for each in found}) == len(found)
    for text, value in found:
        assert value == pytest.approx(expected[text], abs=1e-4)


@pytest.mark.parametrize("backend", ["compiled", "numpy"])
def test_the_likeliest_items_are_those_of_all_items(backend: str) -> None:
    lm = model(boundary=True, backend=backend)
    found = lm.most_likely(50, max_new_tokens=6)
    assert (found.is_exact, found.proved, len(found)) == (True, 50, 50)
    agree(found, {text: log_prob(lm, text) for text in every(5)})


def test_a_prompt_begins_the_items() -> None:
    found = ITEMS.most_likely(20, "ab", max_new_tokens=5)
    assert all(text.startswith("ab") for text, _ in found)
    agree(found, {"ab" + text: log_prob(ITEMS, text, "ab") for text in every(4)})


def test_constraints_hold() -> None:
    options = {"pattern": "a?[bc]+a*", "min_length": 2, "max_length": 5, "ban": ["bb", "ca"]}
    expected = {
        text: log_prob(ITEMS, text)
        for text in every(5)
        if re.fullmatch("a?[bc]+a*", text) and len(text) >= 2 and "bb" not in text and "ca" not in text
    }
    found = ITEMS.most_likely(1000, **options)
    assert len(found) == len(expected)
    assert found.is_exact
    agree(found, expected)


@pytest.mark.parametrize("keep_stop", [False, True])
def test_texts_of_a_plain_model_end_at_their_stop_string(keep_stop: bool) -> None:
    found = PLAIN.most_likely(30, "ab", stop="\n", max_new_tokens=5, keep_stop=keep_stop)
    expected = {
        text + "\n" * keep_stop: log_prob(PLAIN, text + "\n", "ab")
        for text in every(4)
        if "\n" not in text
    }  # fmt: skip
    agree(found, expected)


def test_texts_of_a_plain_model_end_with_their_pattern_or_their_length() -> None:
    texts = {text: log_prob(PLAIN, text, "ab") for text in every(3)}
    agree(PLAIN.most_likely(9, "ab", pattern="a[abc]|bcb"), {
        text: value for text, value in texts.items() if re.fullmatch("a[abc]|bcb", text)
    })  # fmt: skip
    found = PLAIN.most_likely(12, "ab", max_length=3)
    agree(found, {text: value for text, value in texts.items() if len(text) == 3})
    assert PLAIN.most_likely(3, "ab", max_length=0).texts == (LikelyText("", 0.0),)


def test_several_stop_strings_end_a_text_separately() -> None:
    found = PLAIN.most_likely(100, stop=["\n", "c"], max_new_tokens=3)
    ways = [text + stop for text in ("", "a", "b", "aa", "ab", "ba", "bb") for stop in "\nc"]
    assert len(found) == len(ways)
    assert math.fsum(each.probability for each in found) == pytest.approx(
        sum(math.exp(log_prob(PLAIN, way)) for way in ways), abs=1e-4
    )


def test_numbers_of_a_text() -> None:
    text = ITEMS.most_likely(1)[0]
    assert isinstance(text, LikelyText)
    assert text.bits == pytest.approx(-text.log_prob / math.log(2))
    assert text.probability == pytest.approx(2**-text.bits)
    assert LikelyText("", 0.0).bits == 0
    assert ITEMS.most_likely(3)[:1] == (text,)


def test_a_search_that_stops_says_so() -> None:
    exact = ITEMS.most_likely(40)
    stopped = ITEMS.most_likely(40, limit=30)
    assert (exact.is_exact, stopped.is_exact) == (True, False)
    assert stopped.prefixes == 30 < exact.prefixes
    assert 0 < stopped.proved < len(stopped) <= 30
    assert stopped.texts[: stopped.proved] == exact.texts[: stopped.proved]
    seen: list[int] = []
    ITEMS.most_likely(10_000, limit=600, progress=seen.append)
    assert seen == [256, 512]


@pytest.mark.parametrize(
    ("lm", "options", "says"),
    [
        (PLAIN, {}, "nothing says where a text ends; give a stop string"),
        (PLAIN, {"ban": "a"}, "nothing says where a text ends"),
        (PLAIN, {"pattern": "[ab]+"}, "nothing says where a text ends"),
        (PLAIN, {"min_length": 3}, "nothing says where a text ends"),
        (ITEMS, {"n": 0}, "n must be a whole number of at least 1, got 0"),
        (ITEMS, {"limit": 0}, "limit must be a whole number of at least 1"),
        (ITEMS, {"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1"),
        (ITEMS, {"max_new_tokens": 3, "min_length": 3}, "takes 4 characters, its end included, and the length limit"),
        (ITEMS, {"prompt": "abc", "pattern": "b+"}, "begins with this prompt"),
        (ITEMS, {"pattern": "("}, "not a regular expression"),
        (ITEMS, {"pattern": "a", "ban": "a"}, "leave no text that matches"),
        (ITEMS, {"count": 3}, "most_likely has no argument 'count'; use n"),
    ],
)
def test_what_cannot_be_found_is_named(lm: LanguageModel, options: dict, says: str) -> None:
    with pytest.raises(SamplingError, match=re.escape(says)):
        lm.most_likely(**{"n": 1, **options} if "count" not in options else options)


def test_an_unknown_character_of_the_prompt_is_an_error() -> None:
    with pytest.raises(VocabError, match="unknown character 'x'"):
        ITEMS.most_likely(1, "x")
    assert ITEMS.most_likely(1, "xa", unknown="skip").texts
