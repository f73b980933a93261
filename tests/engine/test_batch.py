"""Many sequences at once: each as it would be alone, whatever works on it and beside it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock import Generation, Interrupted, LanguageModel, ModelConfig, Prompt, ReweightGPT, Sampling
from knock.choices import Backend
from knock.engine.batch import FINISH_REASONS, LENGTH, Job, Request, Rows, groups, work_together
from knock.engine.engine import Engine
from knock.errors import GenerationError, SamplingError, VocabError
from knock.generation.constraints.automaton import Rules, build
from knock.generation.stopping import StopStrings, automaton
from knock.sampling import TokenStats, summarize, summarize_rows
from knock.weights import Weights
from knock_kernels.cache.store import address
from knock_kernels.lang.layout import FinishReason
from tests.cases import EVERY, RUNS, SMALL, models, random_tokens, random_weights

SAMPLINGS = [
    Sampling(), Sampling(temperature=0.7, top_p=0.9), Sampling(mirostat=2.0), Sampling(target_entropy=1.5),
    Sampling(logit_bias={1: 2.0, 2: float("-inf")}), Sampling(temperature=0),
    Sampling(no_repeat_ngram=3), Sampling(dry_multiplier=1.0, dry_allowed_length=2, repetition_range=30),
]  # fmt: skip


def random_requests(config: ModelConfig, count: int, seed: int = 0, longest: int = 60) -> list[Request]:
    """Ragged prompts, some of them shared; all kinds of controls; some with stop strings."""
    rng = np.random.default_rng(seed)
    V = config.vocab_size
    samplings = [replace(s, logit_bias={}) if V < 3 else s for s in SAMPLINGS]
    prompts = [
        random_tokens(config, int(length), i)
        for i, length in enumerate(rng.integers(1, 4 * config.longest_window + 2, 6))
    ]
    stop = [rng.integers(0, V, 2).tolist(), rng.integers(0, V, 1).tolist()]
    forbidding = build(Rules(stop=stop, ban=[rng.integers(0, V, 2).tolist()], min_length=3), V)
    watched = [None, None, build(Rules(stop=stop), V), forbidding]
    return [
        Request(prompts[rng.integers(6)], samplings[rng.integers(len(samplings))], watched[rng.integers(4)],
                int(rng.integers(3, longest)) if rng.random() < 0.9 else 0, stream, is_masked=rng.random() < 0.8)
        for stream in range(count)
    ]  # fmt: skip


def alone(engine: Engine, request: Request, seed: int) -> tuple[list[int], int, int, TokenStats]:
    """Tokens, how many are kept, why they end, and their statistics: by a stream of tokens."""
    stream = engine.start(
        request.tokens, request.sampling, seed, request.index, length=request.max_new_tokens,
        automaton=request.automaton, is_masked=request.is_masked,
    )  # fmt: skip
    parts = [stream.advance(length) for length in (request.max_new_tokens // 2, -(-request.max_new_tokens // 2))]
    tokens = np.concatenate([tokens for tokens, _ in parts]).tolist()
    stats = TokenStats.concatenate([stats for _, stats in parts])
    return tokens, len(tokens) - stream.cut, stream.finish_reason or LENGTH, stats


def texts(rows: Rows) -> list[tuple[list[int], int, int]]:
    ends = rows.starts + rows.lengths
    tokens = [rows.tokens[start:end].tolist() for start, end in zip(rows.starts, ends, strict=True)]
    return list(zip(tokens, rows.kept.tolist(), rows.finish_reasons.tolist(), strict=True))


def bits(rows: Rows) -> list[tuple[tuple[list[int], int, int], bytes]]:
    """Statistics too: a probability tells of a last bit that a token does not."""
    assert rows.stats is not None
    stats = [
        rows.stats[start:end].tobytes() for start, end in zip(rows.starts, rows.starts + rows.lengths, strict=True)
    ]
    return list(zip(texts(rows), stats, strict=True))


@pytest.mark.parametrize(("kind", "backend"), RUNS)
def test_row_equals_the_row_alone(kind: str, backend: Backend) -> None:
    engine = Engine(random_weights(EVERY[kind], 0), backend)
    requests = random_requests(engine.config, 40)
    rows = engine.run(requests, 5, threads=2, keep_stats=True)
    for request, (tokens, kept, reason), start in zip(requests, texts(rows), rows.starts, strict=True):
        *expected, stats = alone(engine, request, 5)
        assert [tokens, kept, reason] == expected
        for name, column in vars(TokenStats.from_array(rows.stats[start : start + len(tokens)])).items():
            assert np.array_equal(column, getattr(stats, name)), name


@given(models(), st.integers(1, 30), st.integers(1, 4), st.integers(0, 1000))
def test_any_model_in_any_number_of_threads(weights: Weights, count: int, threads: int, seed: int) -> None:
    engine = Engine(weights, "compiled")
    requests = random_requests(weights.config, count, seed, longest=20)
    rows = engine.run(requests, seed, threads=threads)
    for request, (tokens, kept, reason) in zip(requests, texts(rows), strict=True):
        assert [tokens, kept, reason] == list(alone(engine, request, seed)[:3])


def test_rows_depend_on_nothing_else(shakespeare: LanguageModel) -> None:
    """10,000 rows, in groups of any size, on any number of threads, in any order, in parts: bit for bit."""
    count, engine = 10_000, shakespeare.model.engine
    requests = random_requests(engine.config, count, longest=12)
    expected = bits(engine.run(requests, 3, threads=1, keep_stats=True))
    for threads, size in itertools.product((1, 2, 4), (1, 2, 7, 64, 1000)):
        part = range(0, count if size > 7 else 300, size)
        groups = (engine.run(requests[i : i + size], 3, threads=threads, keep_stats=True) for i in part)
        result = [row for rows in groups for row in bits(rows)]
        assert result == expected[: len(result)]
    for threads in (1, 2, 4):
        order = np.random.default_rng(threads).permutation(count)
        shuffled = bits(engine.run([requests[i] for i in order], 3, threads=threads, keep_stats=True))
        assert [shuffled[i] for i in np.argsort(order)] == expected


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4), st.text("abc", max_size=40))
def test_automaton_equals_a_search(stop: list[str], text: str) -> None:
    table = automaton([[ord(char) - ord("a") for char in string] for string in stop], 3)
    search, state, result = StopStrings(stop), 0, text
    for i, char in enumerate(text):
        state = table[state, ord(char) - ord("a")]
        if table[state, -1]:
            result = text[: i + 1 - table[state, -1]]
            break
    expected = search.feed(text)
    assert result == expected + search.flush()
    assert (search.found is not None) == (result != text or bool(state and table[state, -1]))


def test_finish_reasons_match_the_kernels() -> None:
    assert [reason.name.replace("_", " ") for reason in FinishReason] == list(FINISH_REASONS)


def test_texts_equal_those_of_generate(shakespeare: LanguageModel) -> None:
    prompts = [
        "ROMEO:",
        "",
        "JULIET:",
        "ROMEO:",
        Prompt("To be", max_new_tokens=7, stop=[]),
        Prompt("A", stop=[" ", "\n"]),
    ]
    batch = shakespeare.generate_batch(prompts, n=2, seed=5, max_new_tokens=40, stop="\n\n", token_stats=True)
    assert len(batch) == 12
    for i, row in enumerate(batch):
        assert row.prompt == (prompts[i // 2].text if isinstance(prompts[i // 2], Prompt) else prompts[i // 2])
        assert row.seed == 5
        assert row.stats["tokens"] == len(row.text) == len(row.token_stats)
        assert row.stats == pytest.approx(summarize(row.token_stats, 5), nan_ok=True)
    first = shakespeare.generate("ROMEO:", seed=5, max_new_tokens=40, stop="\n\n", token_stats=True)
    assert (batch[0].text, batch[0].finish_reason) == (first.text, first.finish_reason)
    assert batch[0].stats == pytest.approx(first.stats, rel=1e-12)
    assert len(batch[8].text) == len(batch[9].text) == 7
    assert {row.finish_reason for row in batch[10:]} == {"stop"}
    assert not any(char in row.text for row in batch[10:] for char in " \n")


def test_controls_of_each_prompt(shakespeare: LanguageModel) -> None:
    each = [Sampling(temperature=0), "top_p", Sampling(logit_bias={"e": float("-inf")})]
    greedy, top_p, biased = shakespeare.generate_batch(["A"] * 3, each, seed=0, max_new_tokens=60)
    assert greedy.text == shakespeare.generate("A", temperature=0, max_new_tokens=60).text
    assert "e" not in biased.text
    own = shakespeare.generate_batch([Prompt("A", sampling=sampling) for sampling in each], seed=0, max_new_tokens=60)
    assert [row.text for row in own] == [greedy.text, top_p.text, biased.text]


def test_iterator_yields_in_order_and_resumes(shakespeare: LanguageModel) -> None:
    prompts = ["ROMEO:", "JULIET:", "O"] * 200
    whole = shakespeare.generate_batch(prompts, seed=1, n=2, max_new_tokens=5)
    taken: list[str] = []

    def endless() -> Iterator[str]:
        for prompt in itertools.cycle(prompts):
            taken.append(prompt)
            yield prompt

    some = list(itertools.islice(shakespeare.sample_iter(endless(), seed=1, n=2, max_new_tokens=5), 700))
    assert [row.text for row in some] == [row.text for row in whole[:700]]
    assert len(taken) < 700  # no further than it has to
    rest = shakespeare.sample_iter(prompts[350:], seed=1, n=2, max_new_tokens=5, first=700)
    assert [row.text for row in rest] == [row.text for row in whole[700:]]


def test_texts_before_an_invalid_prompt_are_yielded_first(shakespeare: LanguageModel) -> None:
    rows = shakespeare.sample_iter(["A"] * 300 + ["é"] + ["A"] * 300, max_new_tokens=3)
    come: list[Generation] = []
    with pytest.raises(VocabError, match="unknown character 'é'"):
        come.extend(rows)
    assert [row.index for row in come] == list(range(300))


@pytest.mark.parametrize("call", ["generate_batch", "sample_iter"])
def test_invalid_prompts_become_error_rows(shakespeare: LanguageModel, call: str) -> None:
    """An invalid prompt yields an error row and changes no other row."""
    banned = Sampling(logit_bias={char: float("-inf") for char in shakespeare.vocab.characters})
    wrong = {1: "é", 3: Prompt("A", sampling="nucleus"), 4: Prompt("B", max_new_tokens=-1), 6: Prompt(sampling=banned)}
    prompts = [wrong.get(i, "ROMEO:") for i in range(8)]
    rows = list(getattr(shakespeare, call)(prompts, n=2, seed=0, max_new_tokens=20, keep_errors=True))
    expected = shakespeare.generate_batch(["ROMEO:"] * 8, n=2, seed=0, max_new_tokens=20)
    for i, (row, right) in enumerate(zip(rows, expected, strict=True)):
        assert row.index == i
        if i // 2 not in wrong:
            assert (row.text, row.finish_reason, row.error) == (right.text, "length", None)
        else:
            assert (row.text, row.finish_reason, row.stats["tokens"]) == ("", "error", 0)
    assert [row.prompt for row in rows[2:4]] == ["é", "é"]
    for i, message in {2: "unknown character 'é'", 6: "nucleus", 8: "max_new_tokens", 12: "bans every token"}.items():
        assert message in (rows[i].error or "")


def test_rows_with_their_own_index_equal_those_of_the_batch(shakespeare: LanguageModel) -> None:
    whole = shakespeare.generate_batch(["ROMEO:", "JULIET:", "O"], n=2, seed=0, max_new_tokens=20)
    some = [Prompt("O", index=2), Prompt("ROMEO:", index=0)]
    out = shakespeare.generate_batch(some, n=2, seed=0, max_new_tokens=20)
    assert [(row.index, row.text) for row in out] == [(row.index, row.text) for row in whole[4:] + whole[:2]]
    for index in (-1, 2**63, 1.5):
        with pytest.raises(SamplingError, match="index must be a whole number from 0"):
            shakespeare.generate_batch([Prompt("O", index=index)])


def test_groups_grow_and_hold_every_request() -> None:
    requests = [Request(np.zeros(1, np.int32), Sampling(), None, 10, i) for i in range(5000)]
    slow = itertools.count(0.0, 2.0)
    assert [len(part) for part in groups(requests[:1000], clock=lambda: next(slow))] == [256, 256, 256, 232]
    parts = list(groups(requests))
    assert [request for part in parts for request in part] == requests
    assert [len(part) for part in parts] == [256, 512, 1024, 2048, 1160]
    long = [replace(request, max_new_tokens=2**18) for request in requests[:40]]
    assert [len(part) for part in groups(long)] == [16, 16, 8]
    longest = [replace(request, max_new_tokens=2**27) for request in requests[:3]]
    assert [len(part) for part in groups(longest)] == [1, 1, 1]  # there has to be room for each
    some = [replace(request, max_new_tokens=2**14) for request in requests[:40]]
    assert [len(part) for part in groups(some)] == [32, 8]


def test_groups_are_as_small_as_the_caller_says() -> None:
    """It is asked before each group, when the rows of the one before have been used."""
    requests = [Request(np.zeros(1, np.int32), Sampling(), None, 10, i) for i in range(1000)]
    used, asked = [0], []

    def at_once() -> int:
        asked.append(used[0])
        return 700 - used[0] if used[0] < 700 else 10

    for part in groups(requests[:720], at_once=at_once):
        used[0] += len(part)
    assert asked == [0, 256, 700, 710, 720]
    assert [len(part) for part in groups(requests, at_once=lambda: 10**9)] == [256, 512, 232]


def test_progress_counts_rows(shakespeare: LanguageModel) -> None:
    counts: list[int] = []
    shakespeare.generate_batch(["A"], n=600, max_new_tokens=3, progress=counts.append)
    assert counts == sorted(counts)
    assert counts[-1] == 600


def test_batches_of_tokens() -> None:
    model = ReweightGPT(vocab_size=5, T=4, n_emb=8, nodes=8, n_blocks=1, n_heads=2)
    rows, stats = model.generate_batch([[1, 2], [], [3]], 6, ["top_p", Sampling(temperature=0), "basic"], seed=2)
    assert rows.shape == (3, 6)
    assert rows.dtype == np.int32
    for i, (prompt, sampling) in enumerate([([1, 2], "top_p"), ([0], Sampling(temperature=0)), ([3], "basic")]):
        controls = sampling if isinstance(sampling, Sampling) else Sampling.preset(sampling, {})
        tokens, per_token = model.engine.start(prompt, controls, 2, i).advance(6)
        assert np.array_equal(rows[i], tokens)
        assert stats[i] == pytest.approx(summarize(per_token, 2))


def test_summaries_of_rows_equal_each_summary() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([3, 0, 1, 5, 0])
    stats = TokenStats.from_array(rng.random((9, 5)))
    ends = np.cumsum(lengths)
    for summary, start, end in zip(summarize_rows(stats, lengths, 7), ends - lengths, ends, strict=True):
        assert summary == pytest.approx(summarize(stats[start:end], 7), nan_ok=True)
    assert summarize_rows(stats[:0], lengths[:0], 7) == []


def test_invalid_arguments_are_rejected_before_generation(shakespeare: LanguageModel) -> None:
    for wrong in ("ROMEO", Prompt("A"), None, 5, {"A": 1}):
        for call in (shakespeare.generate_batch, shakespeare.sample_iter):
            with pytest.raises(SamplingError, match="prompts must be a list"):
                call(wrong)
    for wrong in (None, 5):
        with pytest.raises(SamplingError, match="sampling"):
            shakespeare.generate_batch(["A"], wrong)
    for wrong in (2**28 + 1, 10**20):
        with pytest.raises(SamplingError, match="max_new_tokens must be a whole number from 0 to 268435456"):
            shakespeare.generate_batch(["A"], max_new_tokens=wrong)
    with pytest.raises(SamplingError, match="stop"):
        shakespeare.generate_batch(["A"], stop={"A": 1})
    with pytest.raises(SamplingError, match="first must be"):
        shakespeare.sample_iter(["A"], first=2**63)
    for threads in (0, 10_000, 1.5):
        with pytest.raises(SamplingError, match="threads must be a whole number from 1 to 1024"):
            shakespeare.generate_batch(["A"], threads=threads)
    for wrong in (5, ["A"], None):
        with pytest.raises(VocabError, match="a text must be a string"):
            shakespeare.generate_batch(["A", wrong])
        with pytest.raises(SamplingError, match="sampling"):
            shakespeare.generate_batch(["A"], [wrong])
    with pytest.raises(SamplingError, match="nucleus"):
        shakespeare.generate_batch([Prompt("A", sampling="nucleus")])
    with pytest.raises(VocabError, match="unknown character 'é'"):
        shakespeare.generate_batch(["A", "é"])
    with pytest.raises(SamplingError, match="2 controls for 1 prompts"):
        shakespeare.generate_batch(["A"], ["basic", "basic"])
    with pytest.raises(SamplingError, match="max_new_tokens"):
        shakespeare.generate_batch([Prompt("A", max_new_tokens=-1)])
    with pytest.raises(SamplingError, match="first must"):
        shakespeare.sample_iter(["A"], first=-1)
    assert shakespeare.generate_batch([]) == []
    assert shakespeare.generate_batch(["A"], max_new_tokens=0)[0].text == ""


@pytest.mark.parametrize("backend", ["numpy", "compiled"])
def test_non_finite_logits_raise(backend: str) -> None:
    config = SMALL["reweight-relative"]
    arrays = dict(random_weights(config, 0))
    arrays["wout"] = np.full_like(arrays["wout"], 3e38)
    arrays["ln_f.gain"] = arrays["ln_f.bias"] = np.full_like(arrays["ln_f.gain"], 3e38)
    engine = Engine(Weights(config, arrays), backend, "float32")
    if backend == "numpy":
        engine._ready().arrays = {name: array.astype(float) * 1e200 for name, array in arrays.items()}
    requests = [Request(np.zeros(1, np.int32), Sampling(), None, 5, i) for i in range(3)]
    with np.errstate(all="ignore"), pytest.raises(GenerationError, match="step 0 are not finite"):
        engine.run(requests, 0)


def test_interrupt_stops_the_threads_at_once() -> None:
    """Each works on rows that would take minutes; those that are done are kept."""
    code = """
import signal, threading, time, os
from knock import Interrupted, Prompt, load
model = load("shakespeare-hybrid")
model.generate("A", max_new_tokens=1)
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
started = time.monotonic()
try:
    prompts = [Prompt("A", max_new_tokens=10**7 if i == 3 or i > 12 else 5) for i in range(16)]
    model.generate_batch(prompts, seed=0, threads=2)
except Interrupted as interrupted:
    print("interrupted", time.monotonic() - started < 5, threading.active_count())
    alone = model.generate_batch(["A"] * 16, seed=0, max_new_tokens=5)
    print([row.index for row in interrupted.finished] == [0, 1, 2, *range(4, 13)])
    print(all(row.text == alone[row.index].text for row in interrupted.finished))
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert said == "interrupted True 1\nTrue\nTrue\n"


@pytest.mark.parametrize("at", ["running", "decoding"])
def test_interrupt_keeps_finished_rows(shakespeare: LanguageModel, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Of 600 rows, in groups of 256 and 344, Ctrl-C comes at the end of the second group."""
    expected = shakespeare.generate_batch(["A"] * 600, seed=0, max_new_tokens=2)
    calls = itertools.count(1)

    def interrupted(job: Job, threads: int, progress: object) -> None:
        work_together(job, threads)
        if next(calls) == 2:
            raise KeyboardInterrupt

    def made(**fields: Any) -> Generation:
        if next(calls) == 400:
            raise KeyboardInterrupt
        return Generation(**fields)

    if at == "running":
        monkeypatch.setattr("knock.engine.engine.work_together", interrupted)
    else:
        monkeypatch.setattr("knock.generation.results.Generation", made)
    with pytest.raises(Interrupted) as caught:
        shakespeare.generate_batch(["A"] * 600, seed=0, max_new_tokens=2)
    assert [row.text for row in caught.value.finished] == [row.text for row in expected]


@pytest.mark.parametrize("started", [1, 2])
def test_interrupt_while_a_thread_is_started(monkeypatch: pytest.MonkeyPatch, started: int) -> None:
    """No thread works on after that, even one that the pool does not know of."""

    class Endless:
        def __init__(self) -> None:
            self.at_work, self.is_stopped = 0, threading.Event()

        def work(self) -> None:
            self.at_work += 1
            self.is_stopped.wait(60)
            time.sleep(0.1)
            self.at_work -= 1

        def stop(self) -> None:
            self.is_stopped.set()

        def done(self) -> int:
            return 0

    def start(thread: threading.Thread) -> None:
        begin(thread)
        if next(calls) == started:
            raise KeyboardInterrupt

    begin, calls, job = threading.Thread.start, itertools.count(1), Endless()
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        work_together(job, 2)  # type: ignore[arg-type]
    assert job.at_work == 0
    time.sleep(0.2)
    assert job.at_work == 0


def test_addresses_are_looked_up_once(shakespeare: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy loses an interrupt that comes while it tells an address, so it must not be asked for each row."""
    calls: list[object] = []

    def counted(array: np.ndarray) -> int:
        calls.append(array)
        return address(array)

    monkeypatch.setattr("knock.engine.compiled_batch.address", counted)
    options = {"n": 200, "seed": 0, "max_new_tokens": 3, "stop": "e", "no_repeat_ngram": 3, "logit_bias": {"a": 1}}
    shakespeare.generate_batch(["A", "B"], **options)
    assert 0 < len(calls) < 20


def test_failing_job_raises() -> None:
    class Failing:
        def work(self) -> None:
            raise RuntimeError("no")

        def stop(self) -> None: ...

        def done(self) -> int:
            return 0

    with pytest.raises(RuntimeError, match="no"):
        work_together(Failing(), 2)  # type: ignore[arg-type]


def test_threads_share_the_rows(shakespeare: LanguageModel) -> None:
    engine, seen = shakespeare.model.engine, set()
    job = engine._ready().job(
        [Request(np.zeros(1, np.int32), Sampling(), None, 2000, i) for i in range(64)], 0, False, 3
    )
    work = job.work

    def watched() -> None:
        seen.add(threading.get_ident())
        work()

    job.work = watched
    work_together(job, 3)
    assert len(seen) == 3
    assert job.done() == 64
