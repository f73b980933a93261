"""Constraints through the library: every text matches, by every way of drawing it, and `exact` is the model's own."""

from __future__ import annotations

import itertools
import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Interrupted, LanguageModel, Prompt, ReweightGPT, Vocab
from knock.engine.batch import NOT_DONE, Request, Rows
from knock.engine.engine import Engine
from knock.errors import GenerationError, SamplingError, TooFewError, VocabError
from knock.files.checkpoint import read_checkpoint
from knock.generation.constraints.constraint import Constraint
from tests.generation.constraints.patterns import CHARACTERS, PATTERNS

SHAPE = {"T": 8, "n_emb": 16, "nodes": 16, "n_blocks": 2, "n_heads": 2, "seed": 3}


def model(characters: str, *, boundary: bool, backend: str = "compiled") -> LanguageModel:
    vocab = Vocab(characters, boundary=boundary)
    return LanguageModel(ReweightGPT(vocab.vocab_size, backend=backend, **SHAPE), vocab)


PLAIN = model(CHARACTERS, boundary=False)
ITEMS = model(CHARACTERS, boundary=True)


@given(PATTERNS, st.booleans(), st.integers(0, 99), st.integers(1, 40))
def test_every_text_matches_by_every_call(pattern: str, of_items: bool, seed: int, length: int) -> None:
    lm = ITEMS if of_items else PLAIN
    try:
        text = lm.generate("", pattern=pattern, seed=seed, max_new_tokens=length)
    except SamplingError:  # nothing matches within the length, which is tested elsewhere
        return
    assert re.fullmatch(pattern, text.text), text
    assert text.finish_reason in (("end",) if of_items else ("length", "match"))
    assert "".join(lm.stream("", pattern=pattern, seed=seed, max_new_tokens=length)) == text.text
    rows = lm.generate_batch(["", ""], pattern=pattern, seed=seed, max_new_tokens=length, threads=2)
    assert (rows[0].text, rows[0].finish_reason) == (text.text, text.finish_reason)
    assert rows[0].stats["tokens"] == text.stats["tokens"] == len(text.text)
    assert re.fullmatch(pattern, rows[1].text)


@pytest.mark.parametrize("of_items", [False, True])
def test_backends_agree(of_items: bool) -> None:
    """The same texts but where float32 and float64 draw differently, which is rare."""
    options = {"pattern": r"[A-C]?[abc ]{3,20}\.", "ban": "aa", "n": 40, "seed": 1, "max_new_tokens": 30}
    texts = [
        [row.text for row in model(CHARACTERS, boundary=of_items, backend=backend).generate_batch([""], **options)]
        for backend in ("compiled", "numpy")
    ]
    assert sum(a == b for a, b in zip(*texts, strict=True)) >= 39


def test_rows_depend_on_nothing_else() -> None:
    options = {"pattern": "[abc]+(-[abc]+)*", "min_length": 3, "max_length": 12, "seed": 5}
    expected = [row.text for row in ITEMS.generate_batch([""] * 300, **options, threads=1)]
    assert [row.text for row in ITEMS.generate_batch([""] * 300, **options, threads=3)] == expected
    some = ITEMS.sample_iter([""] * 100, first=200, **options)
    assert [row.text for row in some] == expected[200:]


def test_stop_strings_end_a_matching_text() -> None:
    rows = PLAIN.generate_batch([""], n=200, pattern="[abc]{2,5}", stop=["\n", ".."], seed=2)
    assert {row.finish_reason for row in rows} == {"stop"}
    assert {row.stop_string for row in rows} == {"\n", ".."}
    assert all(re.fullmatch("[abc]{2,5}", row.text) for row in rows)
    kept = PLAIN.generate_batch([""], n=200, pattern="[abc]{2,5}", stop=["\n", ".."], seed=2, keep_stop=True)
    assert [row.text for row in kept] == [row.text + str(row.stop_string) for row in rows]
    assert [row.stop_string for row in kept] == [row.stop_string for row in rows]
    assert PLAIN.generate("", pattern="[abc]{2,5}", stop=["\n", ".."], seed=2, keep_stop=True).text == kept[0].text


def test_prompts_of_items_count_and_others_do_not() -> None:
    text = ITEMS.generate("ab", pattern="[a-c]{4}", seed=1)
    assert len(text.text) == 2
    assert len(PLAIN.generate("ab", pattern="[a-c]{4}", seed=1).text) == 4
    with pytest.raises(SamplingError, match="begins with this prompt"):
        ITEMS.generate("A", pattern="[a-c]{4}")
    with pytest.raises(SamplingError, match="the prompt has 5 characters, more than max_length allows"):
        ITEMS.generate("abcab", max_length=4)
    assert ITEMS.generate("abcab", max_length=5).text == ""
    assert PLAIN.generate("abcab", max_length=0).text == ""


def test_items_end_with_their_boundary_and_begin_afresh() -> None:
    row = ITEMS.generate("", seed=4, max_new_tokens=1000)
    assert row.finish_reason == "end"
    assert row.stats["tokens"] == len(row.text)
    assert "".join(ITEMS.stream("", seed=4, max_new_tokens=1000)) == row.text
    assert ITEMS.generate_batch(["b", ""], seed=4)[1].text == ITEMS.generate_batch(["", ""], seed=4)[1].text
    assert ITEMS.generate("", seed=4, max_new_tokens=2, min_length=0).finish_reason in ("length", "end")


def test_score_of_an_item_includes_its_end() -> None:
    score = ITEMS.score("abc")
    assert score.log_probs.shape == (4,)
    assert PLAIN.score("abc").log_probs.shape == (3,)
    assert score.bits_per_char == pytest.approx(-score.log_probs.mean() / math.log(2))


def test_item_models_are_saved_with_their_boundary(tmp_path) -> None:
    for name in ("m.safetensors", "m.npz"):
        ITEMS.save(tmp_path / name)
        checkpoint = read_checkpoint(tmp_path / name)
        assert checkpoint.vocab == ITEMS.vocab
        assert checkpoint.digest == ITEMS.digest
        assert checkpoint.vocab.has_boundary
    assert ITEMS.digest != LanguageModel(ITEMS.model, Vocab(CHARACTERS + "x")).digest
    assert pickle.loads(pickle.dumps(ITEMS)).vocab == ITEMS.vocab


def test_the_boundary_is_no_character() -> None:
    vocab = ITEMS.vocab
    assert vocab.boundary == len(CHARACTERS) == vocab.vocab_size - 1
    with pytest.raises(VocabError, match="must be from 0 to"):
        vocab.decode([vocab.boundary])


def chi_square(counts: dict[str, int], expected: dict[str, float], draws: int) -> float:
    return sum((counts.get(text, 0) - draws * p) ** 2 / (draws * p) for text, p in expected.items())


def test_exact_is_the_conditional_distribution_and_masking_is_not() -> None:
    lm = model("ab", boundary=True)
    pattern, draws = "a[ab]?|bb|aab", 20_000
    texts = ["".join(chars) for n in range(4) for chars in itertools.product("ab", repeat=n)]
    matching = [text for text in texts if re.fullmatch(pattern, text)]
    probability = {text: math.exp(lm.score(text).log_probs.sum()) for text in matching}
    exact = {text: p / sum(probability.values()) for text, p in probability.items()}
    masked = {}
    for text in matching:
        p = 1.0
        for i in range(len(text) + 1):
            logits = lm.model.logits([lm.vocab.boundary, *lm.vocab.encode(text[:i])])[-1].astype(np.float64)
            allowed = {c for c in (0, 1) if any(m.startswith(text[:i] + "ab"[c]) for m in matching)}
            allowed |= {2} if text[:i] in matching else set()
            weights = np.exp(logits)
            token = 2 if i == len(text) else int(lm.vocab.encode(text[i])[0])
            p *= weights[token] / sum(weights[list(allowed)])
        masked[text] = p
    assert sum(masked.values()) == pytest.approx(1)

    def counts(**options: object) -> dict[str, int]:
        texts = [row.text for row in lm.generate_batch([""], n=draws, seed=8, pattern=pattern, **options)]
        return {text: texts.count(text) for text in matching}

    limit = 25.0  # above the 99.99% quantile for up to four degrees of freedom
    by_rejection, by_masking = counts(exact=True), counts()
    assert chi_square(by_rejection, exact, draws) < limit
    assert chi_square(by_masking, masked, draws) < limit
    assert chi_square(by_masking, exact, draws) > 4 * limit
    assert chi_square(by_rejection, masked, draws) > 4 * limit


def test_exact_texts_are_drawn_until_one_matches() -> None:
    text = ITEMS.generate("", pattern="[ab]{1,3}", exact=True, seed=1)
    assert re.fullmatch("[ab]{1,3}", text.text)
    with pytest.raises(GenerationError, match="none of 10,000 texts"):
        model("ab", boundary=True).generate("", pattern="(a|b){60}", exact=True, seed=1)
    with pytest.raises(SamplingError, match="a stream cannot be exact"):
        ITEMS.stream("", pattern="a", exact=True)


EXACT: dict[str, Any] = {"pattern": "[abc]{1,4}", "exact": True, "seed": 4, "max_new_tokens": 30}


@pytest.mark.parametrize("of_items", [True, False])
def test_an_exact_row_is_the_first_of_its_draws_that_matches(of_items: bool) -> None:
    lm = ITEMS if of_items else PLAIN
    options = EXACT if of_items else EXACT | {"pattern": r"[^\n]*", "stop": "a", "max_new_tokens": 60}
    prompts = ["", "b", "ab"]
    rows = lm.generate_batch(prompts, n=100, threads=2, **options)
    draws = 40
    tried = {
        index: lm.generate_batch([Prompt(prompts[index // 100], index=index * 10_000 + k) for k in range(draws)],
                                 keep_rejected=True, **options)
        for index in range(0, 300, 20)
    }  # fmt: skip
    numbers = []
    for index, texts in tried.items():
        number = next((k for k, text in enumerate(texts) if text.finish_reason != "rejected"), draws)
        if number < draws:
            numbers.append(number)
            assert rows[index].text == texts[number].text
            assert np.array_equal([*rows[index].stats.values()], [*texts[number].stats.values()], equal_nan=True)
    assert len(set(numbers)) > 2
    assert [row.index for row in rows] == list(range(300))
    assert {row.finish_reason for row in rows} == ({"end"} if of_items else {"stop"})
    assert lm.generate(**options).text == rows[0].text == lm.items(1, **options, unique=False)[0]


def test_exact_rows_depend_on_nothing_else() -> None:
    prompts = [Prompt(("", "b")[i % 2], extra={"id": i}) for i in range(700)]
    rows = ITEMS.generate_batch(prompts, **EXACT, threads=1, token_stats=True)
    assert [row.extra for row in rows] == [prompt.extra for prompt in prompts]
    for threads in (2, 3):
        texts = list(ITEMS.sample_iter(iter(prompts), **EXACT, threads=threads, at_once=lambda: 50))
        assert [(row.index, row.text) for row in texts] == [(row.index, row.text) for row in rows]
    resumed = ITEMS.sample_iter(prompts[650:], **EXACT, first=650)
    assert [row.text for row in resumed] == [row.text for row in rows[650:]]
    alone = [ITEMS.generate_batch([replace(prompts[i], index=i)], **EXACT)[0] for i in (1, 400, 699)]
    assert [row.text for row in alone] == [rows[i].text for i in (1, 400, 699)]
    assert all(len(row.token_stats) == len(row.text) for row in rows if row.token_stats is not None)


def test_exact_row_without_a_match_is_an_error() -> None:
    lm = model("ab", boundary=True)
    prompts, options = ["a", "b", "a"], {"pattern": "(a|b){60}|b[ab]*", "exact": True, "seed": 1}
    with pytest.raises(GenerationError, match=r"row 0: none of 10,000 texts that were drawn matches the constraint"):
        lm.generate_batch(prompts, **options)
    rows = lm.generate_batch(prompts, keep_errors=True, token_stats=True, **options)
    assert [row.finish_reason for row in rows] == ["error", "end", "error"]
    assert [row.error is None for row in rows] == [False, True, False]
    assert [(row.text, row.stats["tokens"], len(row.token_stats)) for row in rows[::2]] == [("", 0, 0)] * 2
    counts: list[int] = []
    rest = lm.sample_iter(prompts[1:], first=1, progress=counts.append, **options)
    assert next(rest).text == rows[1].text
    with pytest.raises(GenerationError, match="row 2: none of 10,000"):
        next(rest)
    assert set(counts) == {0, 1}


def test_an_index_of_an_exact_row_has_room_for_its_draws() -> None:
    last = 2**62 // 10_000
    assert ITEMS.generate_batch([Prompt(index=last)], **EXACT)[0].index == last
    with pytest.raises(SamplingError, match=f"index must be a whole number from 0 to {last}"):
        ITEMS.generate_batch([Prompt(index=last + 1)], **EXACT)
    with pytest.raises(SamplingError, match=f"first must be a whole number from 0 to {last}"):
        ITEMS.sample_iter([""], first=last + 1, **EXACT)


def test_interrupted_exact_rows_are_kept_with_the_first_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that were finished out of turn are not taken for the first."""
    expected = ITEMS.generate_batch([""] * 300, **EXACT)
    calls = itertools.count(1)

    def interrupted(engine: Engine, requests: Sequence[Request], *arguments: Any, **options: Any) -> Rows:
        rows = run(engine, requests, *arguments, **options)
        if next(calls) < 3:
            return rows
        rows.finish_reasons[::3] = NOT_DONE
        return replace(rows, is_interrupted=True)

    run = Engine.run
    monkeypatch.setattr(Engine, "run", interrupted)
    with pytest.raises(Interrupted) as caught:
        ITEMS.generate_batch([""] * 300, **EXACT)
    found = caught.value.finished
    assert [row.text for row in found] == [expected[row.index].text for row in found]
    assert 10 < len(found) < 300
    indices = {row.index for row in found}
    assert caught.value.first_missing == next(i for i in range(300) if i not in indices)


def test_a_compiled_pattern_is_like_its_string() -> None:
    for pattern in (re.compile("[abc]{2,5}"), re.compile("(?i)[ABC]{2,5}")):
        options = {"pattern": pattern, "seed": 2}
        assert Constraint(pattern=pattern) == Constraint(pattern=pattern.pattern)
        text = ITEMS.generate(**options).text
        assert text == ITEMS.generate(pattern=pattern.pattern, seed=2).text == "".join(ITEMS.stream(**options))
        assert [row.text for row in ITEMS.sample_iter(["", ""], **options)] == [
            row.text for row in ITEMS.generate_batch(["", ""], **options)
        ]
        assert ITEMS.items(1, **options) == [text]
    assert ITEMS.most_likely(2, pattern=re.compile("a+")).texts == ITEMS.most_likely(2, pattern="a+").texts


def test_a_length_of_none_is_a_whole_item() -> None:
    expected = ITEMS.generate(max_new_tokens=1000, seed=3).text
    assert expected == ITEMS.generate(max_new_tokens=None, seed=3).text
    assert expected == "".join(ITEMS.stream(max_new_tokens=None, seed=3))
    assert expected == ITEMS.generate_batch([""], max_new_tokens=None, seed=3)[0].text
    assert expected == next(ITEMS.sample_iter([""], max_new_tokens=None, seed=3)).text
    assert [expected] == ITEMS.items(1, max_new_tokens=None, seed=3)
    assert ITEMS.most_likely(2, max_new_tokens=None).texts == ITEMS.most_likely(2, max_new_tokens=1000).texts


@pytest.mark.parametrize(
    "call",
    [
        lambda **options: PLAIN.generate("a", **options),
        lambda **options: PLAIN.stream("a", **options),
        lambda **options: PLAIN.generate_batch(["a"], **options),
        lambda **options: PLAIN.sample_iter(["a"], **options),
        lambda **options: PLAIN.most_likely(1, "a", stop="b", **options),
    ],
)
def test_plain_text_needs_a_length(call: Callable[..., object]) -> None:
    with pytest.raises(SamplingError, match="max_new_tokens=None generates up to the end of an item, but this model"):
        call(max_new_tokens=None)


def test_interrupted_items_are_all_those_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the third group: its finished texts up to the first gap count, too."""
    options = {"seed": 6, "unique": False, "max_new_tokens": 50, "keep_cut": True}
    expected = ITEMS.items(2000, **options)
    calls, sizes = itertools.count(1), list[int]()

    def interrupted(engine: Engine, requests: Sequence[Request], *arguments: Any, **more: Any) -> Rows:
        rows = run(engine, requests, *arguments, **more)
        sizes.append(len(requests))
        if next(calls) < 3:
            return rows
        rows.finish_reasons[100::7] = NOT_DONE
        return replace(rows, is_interrupted=True)

    run = Engine.run
    monkeypatch.setattr(Engine, "run", interrupted)
    with pytest.raises(Interrupted) as caught:
        ITEMS.items(2000, **options)
    count = sum(sizes[:2]) + 100
    assert caught.value.items == expected[:count]
    assert (caught.value.finished, caught.value.first_missing) == ([], count)
    assert str(caught.value) == f"{count} texts were finished; the first missing row is {count}"
    assert pickle.loads(pickle.dumps(caught.value)).items == caught.value.items


def test_items_interrupted_while_they_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def accept(text: str) -> bool:
        seen.append(text)
        if len(seen) == 300:
            raise KeyboardInterrupt
        return len(seen) % 2 == 0

    seen: list[str] = []
    with pytest.raises(Interrupted) as caught:
        ITEMS.items(2000, seed=6, unique=False, keep_cut=True, accept=accept)
    assert (caught.value.items, caught.value.first_missing) == (seen[1:299:2], 299)


def test_ctrl_c_during_items() -> None:
    code = """
import os, signal, threading, knock
judged = 0
def accept(text):
    global judged
    judged += 1
    if judged == 1000:
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    return True
lm = knock.load("names", backend="compiled")
try:
    lm.items(10**7, tries=10**8, seed=1, unique=False, accept=accept)
except knock.Interrupted as interrupt:
    found = interrupt.items
    print(len(found) >= 1000, found == lm.items(len(found), seed=1, unique=False))
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120)
    assert said == "True True\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": 3}, "pattern must be a regular expression, got 3"),
        ({"pattern": "x+"}, "no text that the model can write matches the pattern 'x+'; it does not know 'x'"),
        ({"pattern": "[a-c]{2,x}"}, r"matches the pattern '[a-c]{2,x}'; {2,x} is not a quantifier such as {2,5} but"),
        ({"pattern": "[a-c]{2, 5}x"}, "it does not know 'x'; {2, 5} is not a quantifier such as {2,5} but stands for"),
        ({"pattern": r"[{2,a}x]+x\{3,x\}"}, "it does not know 'x', '{', '3', ',', '}'"),
        ({"pattern": r"(?:x{2}y{,3}z{1,2})+"}, "it does not know 'x', 'y', 'z'"),
        (
            {"pattern": re.compile("a", re.IGNORECASE)},
            "must be compiled without flags, got one with re.IGNORECASE; begin",
        ),
        (
            {"pattern": re.compile("a", re.ASCII | re.DOTALL)},
            "got one with re.ASCII and re.DOTALL; begin it with (?as)",
        ),
        ({"pattern": re.compile(b"a")}, "pattern must be a regular expression, got re.compile(b'a')"),
        ({"pattern": r"[w-z]+a§[§\d]*"}, r"matches the pattern '[w-z]+a§[§\\d]*'; it does not know [w-z], '§'"),
        ({"pattern": "a{400}"}, "the shortest text that matches the constraints takes 401 characters"),
        ({"pattern": "a{9}b?", "max_length": 5}, "takes 10 characters, its end included, and the length limit is 6"),
        ({"pattern": "abc", "min_length": 5}, "has at least 5 characters; change the lengths"),
        ({"pattern": "[ab]*a[ab]{20}"}, "more than 100,000 states"),
        ({"min_length": 5, "max_length": 3}, "min_length=5 is above max_length=3"),
        ({"min_length": -1}, "min_length must be a whole number of at least 0"),
        ({"max_length": 2.5}, "max_length must be a whole number"),
        ({"pattern": "abc", "ban": "b"}, "the banned characters and strings leave no text that matches"),
        ({"pattern": "abc", "logit_bias": {"b": -math.inf}}, "the banned characters and strings leave no text"),
        ({"ban": ""}, "a banned string needs at least one character"),
        ({"ban": 3}, "ban must be a string or several, got 3"),
        ({"patern": "a"}, "generate has no argument 'patern'; did you mean pattern?"),
    ],
)
def test_impossible_constraints_are_named(options: dict, says: str) -> None:
    with pytest.raises(SamplingError, match=re.escape(says)):
        ITEMS.generate("", **options)


@pytest.mark.parametrize("lm", [PLAIN, ITEMS])
def test_banning_everything_is_an_error(lm: LanguageModel) -> None:
    with pytest.raises(SamplingError, match="leave nothing to write"):
        lm.generate("", ban=list(CHARACTERS))
    assert set(lm.generate("", ban=list(CHARACTERS[1:]), max_new_tokens=9, seed=1).text) <= {CHARACTERS[0]}


def test_an_empty_item_can_be_asked_for() -> None:
    """It is not what is left over when everything is banned."""
    assert ITEMS.generate("", pattern="").text == ""
    assert ITEMS.generate("", max_length=0, ban=list(CHARACTERS)).text == ""
    assert ITEMS.generate("", pattern="a*", ban="a").text == ""


def test_items_are_the_first_that_pass() -> None:
    options = {"pattern": "[abc]{1,3}", "seed": 6, "accept": lambda text: text != "a", "novel": ["b", "cc"]}
    found = ITEMS.items(20, **options, threads=1)
    assert found == ITEMS.items(20, **options, threads=2)
    assert len(set(found)) == 20
    drawn = [row.text for row in ITEMS.sample_iter([""] * 2000, pattern="[abc]{1,3}", seed=6)]
    expected = [text for text in dict.fromkeys(drawn) if text not in ("a", "b", "cc")]
    assert found == expected[:20]
    with pytest.raises(TooFewError, match=r"got 36 of 50 texts: drawn 10,000, kept 36; dropped: ") as raised:
        ITEMS.items(50, **options)
    assert len(raised.value.items) == 36
    assert pickle.loads(pickle.dumps(raised.value)).items == raised.value.items
    assert all(text.startswith("ab") for text in ITEMS.items(5, "ab", seed=1))
    assert ITEMS.items(0) == []
