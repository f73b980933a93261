"""Tests of ReweightGPT and LanguageModel through their public interface."""

import math
from pathlib import Path

import numpy as np
import pytest

import knock
from knock import LanguageModel, Prompt, ReweightGPT, Sampling, Vocab
from knock.errors import CheckpointError, SamplingError, VocabError
from knock.generation import results as generation
from knock.generation.results import Generation
from knock.generation.stopping import StopStrings
from knock.sampling import summarize
from tests.cases import SMALL, random_weights


def small_model() -> LanguageModel:
    return LanguageModel(ReweightGPT.from_weights(random_weights(SMALL["hybrid-relative"], 0)), Vocab("\nabcdefghij"))


def test_token_level_interface(tmp_path: Path) -> None:
    vocab = Vocab.from_text("your corpus here, starting text")
    model = ReweightGPT(
        vocab_size=vocab.vocab_size, T=32, n_emb=64, nodes=64, n_blocks=3, n_heads=4, head_type="hybrid", alpha=0.5
    )
    tokens, stats = model.generate(
        seed_seq=vocab.encode("starting text"),
        length=200,
        sampling="entropy",
        target_entropy=3.0,
        min_temp=0.3,
        max_temp=2.0,
    )
    assert tokens.shape == (200,)
    assert len(vocab.decode(tokens)) == 200
    assert stats["min_entropy"] <= stats["mean_entropy"] <= stats["max_entropy"]
    assert {"entropy_std", "mean_confidence", "mean_temp", "seed"} <= stats.keys()
    again, _ = model.generate(
        vocab.encode("starting text"), 200, "entropy", target_entropy=3.0, seed=stats["seed"], min_temp=0.3
    )
    assert np.array_equal(tokens, again)
    assert model.logits(tokens).shape == (200, vocab.vocab_size)
    model.save(tmp_path / "m.safetensors", vocab=vocab)
    assert np.array_equal(ReweightGPT.load(tmp_path / "m.safetensors").logits(tokens), model.logits(tokens))


def test_random_weights_default_to_seed_42() -> None:
    first, again, other = (ReweightGPT(7, T=4, n_emb=4, nodes=4, seed=seed) for seed in (42, 42, 43))
    assert np.array_equal(ReweightGPT(7, T=4, n_emb=4, nodes=4).logits([1, 2]), first.logits([1, 2]))
    assert np.array_equal(first.logits([1, 2]), again.logits([1, 2]))
    assert not np.array_equal(first.logits([1, 2]), other.logits([1, 2]))


def test_empty_seed_sequence_starts_from_token_0() -> None:
    model = small_model().model
    assert np.array_equal(model.generate([], 20, seed=1)[0], model.generate([0], 20, seed=1)[0])


def test_generate_is_reproducible(shakespeare: LanguageModel) -> None:
    out = shakespeare.generate("ROMEO:", max_new_tokens=100, temperature=0.8, top_p=0.95)
    again = shakespeare.generate("ROMEO:", max_new_tokens=100, temperature=0.8, top_p=0.95, seed=out.seed)
    assert out.text == again.text
    assert out.stats == again.stats
    assert out.finish_reason == "length"
    assert len(out.text) == 100
    assert shakespeare.generate("ROMEO:", max_new_tokens=100, seed=out.seed + 1).text != out.text


def test_shipped_model_writes_words(shakespeare: LanguageModel) -> None:
    text = shakespeare.generate("ROMEO:", max_new_tokens=2000, temperature=0.7, seed=7).text
    words = text.lower().split()
    common = {"the", "and", "to", "of", "i", "my", "you", "a", "that", "in", "is", "not", "with", "me", "it", "for"}
    assert sum(word in common for word in words) > len(words) / 6
    assert max(map(len, text.split("\n"))) < 90


def test_stream_equals_generate(shakespeare: LanguageModel) -> None:
    options = {"max_new_tokens": 120, "seed": 3, "stop": ["\n\n", "zzz"], "temperature": 0.7}
    whole = shakespeare.generate("ROMEO:", **options)
    stream = shakespeare.stream("ROMEO:", **options)
    pieces = list(stream)
    assert len(pieces) > 1
    assert "".join(pieces) == whole.text
    assert (stream.finish_reason, stream.seed, stream.stats) == (whole.finish_reason, 3, whole.stats)
    assert list(stream) == []


def test_stop_string_truncates_text_and_statistics(shakespeare: LanguageModel) -> None:
    free = shakespeare.generate("ROMEO:", max_new_tokens=200, seed=7, token_stats=True)
    stop = free.text[50:53]
    cut = shakespeare.generate("ROMEO:", max_new_tokens=200, seed=7, stop=stop, token_stats=True)
    assert cut.finish_reason == "stop"
    assert cut.text == free.text[: free.text.index(stop)]
    assert (free.stop_string, cut.stop_string) == (None, stop)
    assert len(cut.token_stats) == len(cut.text)
    assert np.array_equal(cut.token_stats.surprise, free.token_stats.surprise[: len(cut.text)])


def test_token_stats_are_optional(shakespeare: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_COUNTED_AT_ONCE", 20)
    options = {"max_new_tokens": 150, "seed": 7, "stop": ["\n\n\n", "zq"]}
    plain = shakespeare.stream("ROMEO:", **options)
    kept = shakespeare.stream("ROMEO:", **options, token_stats=True)
    assert "".join(plain) == "".join(kept)
    assert plain.token_stats is None
    assert len(kept.token_stats) == 150
    assert plain.stats == kept.stats
    assert plain.stats == pytest.approx(summarize(kept.token_stats, 7))
    assert shakespeare.generate("", max_new_tokens=5).token_stats is None
    assert len(shakespeare.generate_batch([""], max_new_tokens=5, token_stats=True)[0].token_stats) == 5


@pytest.mark.parametrize(
    ("stop", "length", "message"),
    [
        ("Z", 30, "the stop string 'Z' can never end a text: the model does not know 'Z'"),
        (["a", "\u0301"], 30, "the stop string '\u25cc\u0301' can never end a text"),
        (["abc", "ab"], 2, "the stop string 'abc' can never end a text: it has 3 characters, and a text at most 2"),
    ],
)
def test_impossible_stop_strings_get_a_warning(stop: str | list[str], length: int, message: str) -> None:
    model = small_model()
    calls = [
        lambda: model.generate("a", stop=stop, max_new_tokens=length),
        lambda: model.stream("a", stop=stop, max_new_tokens=length),
        lambda: model.generate_batch(["a"] * 3, stop=stop, max_new_tokens=length),
        lambda: model.generate_batch([Prompt("a", stop=stop, max_new_tokens=length)] * 3),
        lambda: model.sample_iter(["a"], stop=stop, max_new_tokens=length),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="can never end a text") as caught:
            call()
        assert [message in str(each.message) for each in caught] == [True]
        assert caught[0].filename == __file__  # the caller's line


def test_stop_strings_in_the_other_normal_form_are_found() -> None:
    model = LanguageModel(small_model().model, Vocab("\nabcdefghi\u00e9"))
    likely = Sampling(logit_bias={"\u00e9": 2.0})
    free = model.generate("a", sampling=likely, seed=1).text
    text = free[: free.index("\u00e9")]
    out = model.generate("a", sampling=likely, seed=1, stop=["e\u0301", "\n\n\n\n"])
    (row,) = model.generate_batch(["a"], likely, seed=1, stop=["e\u0301", "\n\n\n\n"])
    assert (out.text, out.stop_string) == (row.text, row.stop_string) == (text, "e\u0301")


def test_stop_strings_of_a_batch_equal_those_of_single_texts(shakespeare: LanguageModel) -> None:
    stop = ["e", "\n", "the", "he", " t"]
    rows = shakespeare.generate_batch(["A"] * 200, seed=3, max_new_tokens=12, stop=stop)
    free = shakespeare.generate_batch(["A"] * 200, seed=3, max_new_tokens=12)
    assert {row.stop_string for row in rows} >= {"e", "he", " t", None}
    for row, whole in zip(rows, free, strict=True):
        search = StopStrings(stop)
        assert row.text == search.feed(whole.text) + search.flush()
        assert row.stop_string == search.found


def test_seeds_are_drawn_and_reported_by_default() -> None:
    model = small_model()
    batches = [model.generate_batch(["a"] * 3, max_new_tokens=20) for _ in range(3)]
    batches += [list(model.sample_iter(["a"] * 3, max_new_tokens=20)) for _ in range(3)]
    assert len({row.seed for rows in batches for row in rows}) == 6
    for rows in batches:
        again = model.generate_batch(["a"] * 3, max_new_tokens=20, seed=rows[0].seed)
        assert [row.text for row in rows] == [row.text for row in again]
    seeds = {model.model.generate_batch([[1]], 5)[1][0]["seed"] for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("call", "options", "hint"),
    [
        ("generate", {"length": 10}, "generate has no argument 'length'; use max_new_tokens"),
        ("generate", {"n_tokens": 10}, "use max_new_tokens"),
        ("generate", {"max_tokens": 10}, "use max_new_tokens"),
        ("generate", {"temp": 0.5}, "use temperature"),
        ("generate", {"num_return_sequences": 2}, r"use generate_batch\(prompts, n=...\)"),
        ("stream", {"length": 10}, "stream has no argument 'length'; use max_new_tokens"),
        ("generate_batch", {"num_return_sequences": 2}, "generate_batch has no argument 'num_return_sequences'; use n"),
        ("items", {"n": 5}, "use count"),
        ("items", {"at_once": 5}, "items has no argument 'at_once'; its arguments are accept, ban, count, "),
        ("items", {"temprature": 5}, "did you mean temperature"),
        ("generate", {"regex": "a"}, "use pattern"),
        ("generate", {"novel": ["a"]}, "use items, which has it"),
        ("stream", {"threads": 2}, "use generate_batch, which has it"),
        ("sample_iter", {"min_lenght": 2}, "did you mean min_length"),
        ("sample_iter", {"length": 10}, "use max_new_tokens"),
    ],
)
def test_misnamed_arguments_get_a_hint(call: str, options: dict[str, object], hint: str) -> None:
    with pytest.raises(SamplingError, match=hint):
        getattr(small_model(), call)("a" if call in ("generate", "stream") else ["a"], **options)


@pytest.mark.parametrize("call", ["generate", "generate_batch"])
def test_misnamed_arguments_of_the_token_interface_get_a_hint(call: str) -> None:
    with pytest.raises(SamplingError, match=f"{call} has no argument 'max_new_tokens'; use length"):
        getattr(small_model().model, call)([[1]], max_new_tokens=5)


def test_results_keep_the_other_fields_of_prompts() -> None:
    model = small_model()
    rows = model.generate_batch([Prompt("a", extra={"id": 7}), "b", Prompt("Z", extra={"id": 8})], keep_errors=True)
    assert [row.extra for row in rows] == [{"id": 7}, None, {"id": 8}]
    assert hash(Prompt("a", extra={"id": 7})) == hash(Prompt("a"))


def test_partial_stop_string_at_the_end_is_kept() -> None:
    model = small_model()
    free = model.generate("a", max_new_tokens=30, seed=5).text
    almost = free[-2:] + "!"  # the text ends within this stop string
    with pytest.warns(UserWarning, match="can never end a text: the model does not know '!'"):
        out = model.generate("a", max_new_tokens=30, seed=5, stop=almost)
    assert (out.text, out.finish_reason) == (free, "length")


def test_length_0_and_empty_prompt(shakespeare: LanguageModel) -> None:
    nothing = shakespeare.generate("x", max_new_tokens=0)
    assert (nothing.text, nothing.finish_reason) == ("", "length")
    assert math.isnan(nothing.stats["mean_entropy"])
    begun = shakespeare.generate("", max_new_tokens=50, seed=1)
    assert begun.text == shakespeare.generate("\n", max_new_tokens=50, seed=1).text
    assert begun.prompt == ""


def test_logit_bias_takes_characters(shakespeare: LanguageModel) -> None:
    out = shakespeare.generate("ROMEO:", max_new_tokens=300, seed=1, logit_bias={"e": -math.inf, "\n": -math.inf})
    assert "e" not in out.text
    assert "\n" not in out.text
    by_id = {shakespeare.vocab.characters.index(char): -math.inf for char in "e\n"}
    assert shakespeare.generate("ROMEO:", max_new_tokens=300, seed=1, logit_bias=by_id).text == out.text
    with pytest.raises(SamplingError, match="'é'"):
        shakespeare.generate("ROMEO:", logit_bias={"é": 1.0})


def test_lowercase_models_fold_stop_strings_and_biases() -> None:
    model = LanguageModel(small_model().model, Vocab("\nabcdefghij", lowercase=True))
    free = model.generate("A", max_new_tokens=60, seed=1)
    assert free.text == model.generate("a", max_new_tokens=60, seed=1).text
    stop = free.text[20:23]
    strings = ["jj\njj", stop.upper()]
    ended = model.generate("a", seed=1, stop=strings)
    assert (ended.text, ended.stop_string) == (free.text[: free.text.index(stop)], stop.upper())
    (row,) = model.generate_batch(["a"], seed=1, stop=strings)
    assert (row.text, row.stop_string) == (ended.text, ended.stop_string)
    assert "b" not in model.generate("a", seed=1, logit_bias={"B": -math.inf}).text


def test_options_override_a_preset_or_sampling(shakespeare: LanguageModel) -> None:
    wanted = Sampling(top_k=5, temperature=0.5)
    texts = {
        shakespeare.generate("A", max_new_tokens=40, seed=1, sampling=wanted).text,
        shakespeare.generate("A", max_new_tokens=40, seed=1, sampling="top_k", top_k=5, temperature=0.5).text,
        shakespeare.generate("A", max_new_tokens=40, seed=1, sampling=Sampling(top_k=5), temperature=0.5).text,
    }
    assert len(texts) == 1
    with pytest.raises(SamplingError, match="generate has no argument 'temprature'; did you mean temperature"):
        shakespeare.generate("A", temprature=1.0)


def test_exact_entropy_steers_the_sampled_distribution(shakespeare: LanguageModel) -> None:
    options = {"seed": 1, "target_entropy": 1.5, "min_temp": 0.3, "token_stats": True}
    stats = shakespeare.generate("ROMEO:", max_new_tokens=200, **options).token_stats
    free = (stats.temperature > 0.3) & (stats.temperature < 2.0)
    assert free.sum() > 120
    np.testing.assert_allclose(stats.sampled_entropy[free], 1.5, atol=1e-6)
    assert (stats.sampled_entropy[stats.temperature == 2.0] <= 1.5).all()
    assert (stats.sampled_entropy[stats.temperature == 0.3] >= 1.5).all()


def test_unknown_characters_in_a_prompt() -> None:
    model = small_model()
    with pytest.raises(VocabError, match=r"'X' .* offset 1"):
        model.generate("aXb")
    skipped = model.generate("aXb", unknown="skip", seed=1, max_new_tokens=20)
    assert skipped.text == model.generate("ab", seed=1, max_new_tokens=20).text
    assert skipped.prompt == "aXb"


@pytest.mark.parametrize("length", [-1, 1.5, True, "9", None])
def test_invalid_length_is_rejected(length: object) -> None:
    with pytest.raises(SamplingError, match="max_new_tokens"):
        small_model().generate("a", max_new_tokens=length)


def test_batch_rows_are_independent() -> None:
    model = small_model()
    prompts = ["a", "", "jihgfedcba" * 5, "a"]
    rows = model.generate_batch(prompts, "top_p", seed=9, max_new_tokens=25, stop="ab")
    assert [row.prompt for row in rows] == prompts
    assert rows[0].text != rows[3].text
    shorter = model.generate_batch(
        [*prompts[:2], "b", "a"], [Sampling(top_p=0.9)] * 4, seed=9, max_new_tokens=25, stop="ab"
    )
    assert [shorter[i].text for i in (0, 1, 3)] == [rows[i].text for i in (0, 1, 3)]
    alone = model.generate(prompts[0], sampling="top_p", seed=9, max_new_tokens=25, stop="ab")
    assert alone.text == rows[0].text


def test_batch_of_several_texts_per_prompt() -> None:
    rows = small_model().generate_batch(["a", "b"], n=3, max_new_tokens=20)
    assert [row.prompt for row in rows] == ["a", "a", "a", "b", "b", "b"]
    assert len({row.text for row in rows}) == 6
    assert small_model().generate_batch([]) == []


def test_invalid_batches_are_rejected() -> None:
    model = small_model()
    with pytest.raises(SamplingError, match="must be a list of strings or Prompts, got 'ab'"):
        model.generate_batch("ab")
    with pytest.raises(SamplingError, match="1 controls for 2 prompts"):
        model.generate_batch(["a", "b"], [Sampling()])
    for n in (0, 1.5, "2"):
        with pytest.raises(SamplingError, match="n must be a whole number of at least 1"):
            model.generate_batch(["a"], n=n)
    for sampling in (3, None, {"top_k": 3}):
        with pytest.raises(SamplingError, match="sampling"):
            model.generate("a", sampling=sampling)


def test_batch_accepts_any_iterable() -> None:
    model = small_model()
    rows = model.generate_batch((prompt for prompt in "ab"), seed=1, max_new_tokens=5, stop=iter(["ab"]))
    again = model.generate_batch(["a", "b"], seed=1, max_new_tokens=5, stop="ab")
    assert [row.text for row in rows] == [row.text for row in again]


def test_score_equals_the_surprise_of_generation(shakespeare: LanguageModel) -> None:
    out = shakespeare.generate("", max_new_tokens=150, seed=4, token_stats=True)
    score = shakespeare.score(out.text)
    np.testing.assert_allclose(score.log_probs, out.token_stats.log_probs, atol=1e-9)
    assert score.bits_per_char == pytest.approx(out.stats["mean_surprise"])
    assert score.perplexity == pytest.approx(math.exp(score.nats_per_char))
    assert math.isnan(shakespeare.score("").bits_per_char)


def test_save_and_load_keep_everything(tmp_path: Path, shakespeare: LanguageModel) -> None:
    path = tmp_path / "copy.safetensors"
    shakespeare.save(path)
    for place in (path, str(path), tmp_path):
        copy = knock.load(place)
        assert copy.training == shakespeare.training
        assert copy.vocab == shakespeare.vocab
        assert copy.generate("A", seed=1).text == shakespeare.generate("A", seed=1).text


def test_invalid_models_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"neither a file nor a shipped model \(names, .*hybrid, shakespeare-nano"
    ):
        knock.load("shakespeare-hybird")
    with pytest.raises(CheckpointError, match="got 0"):
        knock.load(tmp_path)
    small_model().model.save(tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="no vocabulary"):
        knock.load(tmp_path)
    with pytest.raises(CheckpointError, match="11 tokens and the vocabulary 2"):
        LanguageModel(small_model().model, Vocab("ab"))


def test_repr_and_types_of_results() -> None:
    assert "95,244 parameters" in repr(ReweightGPT(65))
    assert isinstance(small_model().generate("a", max_new_tokens=1), Generation)
    assert "11 characters" in repr(small_model())
