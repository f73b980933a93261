"""Constraints together: patterns, lengths, banned strings, stop strings and prompts, by every way of drawing a text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Generation, LanguageModel, Prompt, ReweightGPT, Vocab
from knock.engine.batch import FINISH_REASONS, LENGTH, REJECTED
from knock.errors import SamplingError, VocabError
from tests.generation.constraints.patterns import CHARACTERS, PATTERNS

SHAPE = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2, "seed": 3}
MODELS = {
    (boundary, backend): LanguageModel(
        ReweightGPT(len(CHARACTERS) + boundary, backend=backend, **SHAPE), Vocab(CHARACTERS, boundary=boundary)
    )
    for boundary in (False, True)
    for backend in ("numpy", "compiled")
}
STRINGS = st.lists(st.text("abcA ", min_size=1, max_size=2), min_size=1, max_size=2)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "pattern": PATTERNS,
        "min_length": st.integers(0, 6),
        "max_length": st.integers(0, 12),
        "ban": STRINGS,
        "stop": STRINGS,
        "keep_stop": st.just(True),
        "temperature": st.sampled_from([0, 0.5, 1.5]),
        "top_k": st.integers(1, 3),
        "no_repeat_ngram": st.just(3),
    },
)


def check(text: Generation, of_items: bool, limit: int, options: dict[str, Any]) -> None:
    """Assert that a text is what the options ask for. One that was cut at its limit may be unfinished."""
    assert len(text.text) <= limit
    if text.finish_reason == FINISH_REASONS[REJECTED]:
        assert options["exact"]
        return
    new = text.text
    if text.stop_string is not None:
        assert text.finish_reason == "stop"
        if options.get("keep_stop"):
            assert new.endswith(text.stop_string)
            new = new.removesuffix(text.stop_string)
    assert not any(stop in new for stop in options.get("stop", ()))
    whole = text.prompt + new if of_items else new
    written = text.prompt + text.text if of_items else text.text
    assert not any(ban in written for ban in options.get("ban", ()))
    assert len(whole) <= options.get("max_length", len(whole))
    if text.finish_reason != FINISH_REASONS[LENGTH]:
        assert len(whole) >= options.get("min_length", 0)
        assert re.fullmatch(options.get("pattern", "(?s:.*)"), whole)


def drawn(lm: LanguageModel, prompt: str, **options: Any) -> list[Generation] | str:
    """Return a text alone, then four of a batch; the error if no text matches."""
    try:
        rows = lm.generate_batch([prompt] * 4, threads=2, **options)
        return [lm.generate(prompt, **options), *rows]
    except SamplingError as error:
        with pytest.raises(SamplingError, match=re.escape(str(error))):
            lm.generate(prompt, **options)
        return str(error)


@pytest.mark.filterwarnings("ignore:the stop string")  # that is longer than a text may be
@pytest.mark.parametrize("of_items", [False, True])
@given(OPTIONS, st.text("abcA", max_size=3), st.integers(0, 20), st.integers(0, 99))
def test_every_text_is_what_was_asked_for(
    of_items: bool, options: dict[str, Any], prompt: str, limit: int, seed: int
) -> None:
    options = {"max_new_tokens": limit, "seed": seed, **options}
    by_backend = [drawn(MODELS[of_items, backend], prompt, **options) for backend in ("numpy", "compiled")]
    if any(isinstance(texts, str) for texts in by_backend):
        assert by_backend[0] == by_backend[1]
        return
    for texts in by_backend:
        for text in texts:
            assert isinstance(text, Generation)
            check(text, of_items, limit, options)
    lm = MODELS[of_items, "compiled"]
    one, row, *_ = by_backend[1]
    assert isinstance(one, Generation)
    assert isinstance(row, Generation)
    assert (one.text, one.finish_reason, one.stop_string) == (row.text, row.finish_reason, row.stop_string)
    assert "".join(lm.stream(prompt, **options)) == one.text
    for text in lm.generate_batch([prompt] * 20, exact=True, keep_rejected=True, **options):
        check(text, of_items, limit, options | {"exact": True})


def test_stop_strings_do_not_count_in_the_prompt_of_an_item() -> None:
    lm = MODELS[True, "compiled"]
    for stop in ("b", "ba", ["b", "ab"]):
        rows = lm.generate_batch(["abb"], n=200, stop=stop, seed=1)
        assert {"end", "stop"} <= {row.finish_reason for row in rows}
        for row in rows:
            assert not any(each in row.text for each in ([stop] if isinstance(stop, str) else stop))
        assert lm.generate("abb", stop=stop, seed=1).text == rows[0].text
    texts = [row.text for row in lm.generate_batch(["aba"], n=100, pattern="a[ab]*", stop="b", seed=2)]
    assert all(re.fullmatch("a*", text) for text in texts)
    assert len(set(texts)) > 1
    assert lm.items(3, "ab", stop="b", seed=1) == [f"ab{text}" for text in dict.fromkeys(
        row.text for row in lm.generate_batch(["ab"] * 30, stop="b", seed=1, max_new_tokens=lm.default_length)
    )][:3]  # fmt: skip


def test_a_prompt_that_matches_nothing_is_named_with_stop_strings_too() -> None:
    lm = MODELS[True, "compiled"]
    for options in ({"pattern": "c+"}, {"ban": "aa"}, {"pattern": "a", "stop": "c"}):
        with pytest.raises(SamplingError, match="begins with this prompt"):
            lm.generate("aa", **{"stop": "b", **options})


@pytest.mark.parametrize("of_items", [False, True])
@pytest.mark.parametrize("options", [{"min_length": 5, "stop": "a"}, {"pattern": "abc"}])
def test_a_limit_below_every_match_is_an_error_for_exact_texts_too(of_items: bool, options: dict[str, Any]) -> None:
    for exact in (False, True):
        with pytest.raises(SamplingError, match="the shortest text that matches the constraints takes"):
            MODELS[of_items, "compiled"].generate("", max_new_tokens=2, exact=exact, **options)


@pytest.mark.parametrize("of_items", [False, True])
def test_stop_strings_that_end_every_text_too_early_are_named(of_items: bool) -> None:
    for prompt in ("", "b"):
        with pytest.raises(SamplingError, match="stop strings end every text before it matches"):
            MODELS[of_items, "compiled"].generate(prompt, pattern="[ab]*c", stop="c")


def test_items_begin_with_the_prompt_as_the_model_reads_it() -> None:
    vocab = Vocab("abc", lowercase=True, boundary=True)
    lm = LanguageModel(ReweightGPT(vocab.vocab_size, **SHAPE), vocab)
    options = {"pattern": "ab[abc]{2,9}", "unknown": "skip"}
    for text in lm.items(5, "A\u2603B", seed=1, **options):
        assert re.fullmatch("ab[abc]{2,9}", text)
    for likely in lm.most_likely(3, "A\u2603B", **options):
        assert re.fullmatch("ab[abc]{2,9}", likely.text)
    with pytest.raises(VocabError, match="a text must be a string, got Prompt"):
        lm.items(1, Prompt("a"))  # type: ignore[arg-type]
