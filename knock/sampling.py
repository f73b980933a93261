"""Sampling: the controls of the pipeline and their validation. Stats: statistics of generated tokens."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from knock.choices import ENTROPY_RULES, EntropyRule, Preset
from knock.errors import SamplingError
from knock.hints import suggestion
from knock.validation import is_one_of, real_number, shown, whole_number

PRESETS: dict[Preset, dict[str, Any]] = {
    "balanced": {"temperature": 0.8, "top_p": 0.95},
    "basic": {},
    "top_k": {"top_k": 40},
    "top_p": {"top_p": 0.9},
    # Only cools, where the model is unsure: heating where it is sure is what writes misspelt words.
    "entropy": {"target_entropy": 1.5, "entropy_rule": "ratio", "max_temp": 1.0, "min_p": 0.05},
}


# All backends compute the same within these bounds: float32 holds the numbers and the logits that they make.
SMALLEST, LARGEST = 1e-30, 1e30
HOTTEST = 1e4  # temperature; above, probabilities are so close together that their order is a matter of rounding
SMALLEST_ENTROPY = 1e-6  # bits; about the resolution of float32 probabilities
_MOST_TOKENS = 2**53  # floats represent integers exactly up to here
_STRONGEST = 1e4  # nats of a penalty, and the factor by which it grows


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    top_n_sigma: float
    target_entropy: float | None
    entropy_rule: EntropyRule
    min_temp: float
    max_temp: float
    mirostat: float | None
    mirostat_eta: float
    no_repeat_ngram: int
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    repetition_range: int
    logit_bias: Mapping[Any, float]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw a token from a model's logits. Immutable, and validated on construction.

    The pipeline runs in this order: logits + bias -> constraints -> repetition -> top_n_sigma -> temperature -> top_k
    -> typical_p -> top_p -> min_p -> draw. Each filter sees probabilities renormalised over the tokens that earlier
    filters kept, and keeps at least one token.

    Numbers other than 0 are at least 1e-30 and, unless noted, at most 1e30: within these bounds all backends compute
    the same.

    Attributes:
        temperature: divide the logits by this, at most 10,000; 0 always takes the most likely token (greedy).
        top_k: keep the k most likely tokens; 0 is off.
        top_p: keep the most likely tokens, up to this total probability; in (0, 1], 1 is off.
        min_p: keep tokens at least this many times as likely as the most likely; in [0, 1], 0 is off.
        typical_p: keep the tokens with surprise nearest the entropy, up to this total probability; in (0, 1], 1 is off.
        top_n_sigma: keep logits within this many standard deviations of the largest; 0 is off.
        target_entropy: set the temperature at every step, within [min_temp, max_temp], to steer the entropy to this
            number of bits, 0 or at least 1e-6; None is off.
        entropy_rule: `"exact"` is the temperature at which the entropy equals the target, `"ratio"` is
            sqrt(target / H) with H the entropy at temperature 1.
        min_temp: lowest temperature of the entropy rules.
        max_temp: highest temperature of the entropy rules.
        mirostat: keep the surprise of the text near this number of bits per token (mirostat 2). Replaces the filters
            after temperature. None is off.
        mirostat_eta: learning rate of mirostat.
        no_repeat_ngram: never repeat a run of this many tokens; 0 is off.
        dry_multiplier: strength of the DRY penalty, in nats, for tokens that would lengthen a repetition; 0 is off.
        dry_base: factor by which the DRY penalty grows with each further token of the repetition.
        dry_allowed_length: shortest repetition, in tokens, that DRY penalises.
        repetition_range: number of tokens before the next one, prompt included, within which repetitions count; 0
            is all of them.
        logit_bias: added to the logits, by token id, at most 1e30 in size; -inf bans a token. A `LanguageModel`
            accepts characters too.

    Raises:
        SamplingError: if a control is out of range, or two controls exclude each other.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    target_entropy: float | None = None
    entropy_rule: EntropyRule = "exact"
    min_temp: float = 0.3
    max_temp: float = 2.0
    mirostat: float | None = None
    mirostat_eta: float = 0.1
    no_repeat_ngram: int = 0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 8
    repetition_range: int = 0
    logit_bias: Mapping[Any, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        top_k = whole_number("top_k", self.top_k, 0, _MOST_TOKENS, error=SamplingError, note=", 0 is off")
        self._set("top_k", top_k)
        for name, least in (("no_repeat_ngram", 0), ("dry_allowed_length", 1), ("repetition_range", 0)):
            self._set(name, whole_number(name, getattr(self, name), least, _MOST_TOKENS, error=SamplingError))
        self._check("dry_multiplier", SMALLEST, _STRONGEST, zero="off")
        self._check("dry_base", 1, _STRONGEST)
        self._check("temperature", SMALLEST, HOTTEST, zero="greedy")
        self._check("top_p", SMALLEST, 1, note=" (off)")
        self._check("typical_p", SMALLEST, 1, note=" (off)")
        self._check("min_p", SMALLEST, 1, zero="off")
        self._check("top_n_sigma", SMALLEST, LARGEST, zero="off")
        self._check("min_temp", SMALLEST, HOTTEST)
        self._check("max_temp", SMALLEST, HOTTEST)
        if self.max_temp < self.min_temp:
            raise SamplingError(f"max_temp must be at least min_temp ({self.min_temp:g}), got {self.max_temp:g}")
        self._check("mirostat_eta", SMALLEST, LARGEST)
        if not is_one_of(self.entropy_rule, ENTROPY_RULES):
            raise SamplingError(
                f"entropy_rule must be one of {', '.join(ENTROPY_RULES)}, got {shown(self.entropy_rule)}"
            )
        if self.target_entropy is not None:
            self._check("target_entropy", SMALLEST_ENTROPY, LARGEST, zero="always min_temp", note=" bits")
            if self.temperature != 1:
                raise SamplingError(
                    f"target_entropy sets the temperature, so temperature={self.temperature} would be ignored; "
                    "give one of them"
                )
        if self.mirostat is not None:
            self._check("mirostat", SMALLEST, LARGEST, note=" bits")
            others = [name for name in _FILTERS if getattr(self, name) != _OFF[name]]
            if others:
                raise SamplingError(f"mirostat replaces {', '.join(others)}; give one or the other")
            if self.temperature == 0:
                raise SamplingError("mirostat needs a temperature above 0, got 0 (greedy)")
        if not isinstance(self.logit_bias, Mapping):
            raise SamplingError(f"logit_bias must map tokens to numbers, got {shown(self.logit_bias)}")
        biases = {key: real_number(bias) for key, bias in self.logit_bias.items()}
        for key, bias in biases.items():
            if bias != -math.inf and not abs(bias) <= LARGEST:
                raise SamplingError(
                    f"logit_bias of {key!r} must be from {-LARGEST:g} to {LARGEST:g}, or -inf (never), "
                    f"got {shown(self.logit_bias[key])}"
                )
        self._set("logit_bias", biases)

    @property
    def penalizes_repetition(self) -> bool:
        """Whether a control needs the text so far."""
        return self.no_repeat_ngram > 0 or self.dry_multiplier > 0

    def _check(self, name: str, low: float, high: float, *, zero: str | None = None, note: str = "") -> None:
        """Convert a field to float and check that it is from `low` to `high`, or 0 if `zero` says what that means."""
        value = real_number(getattr(self, name))
        if not (low <= value <= high or (zero is not None and value == 0)):
            or_zero = "" if zero is None else f"0 ({zero}) or "
            range_ = f"above 0 and at most {high:g}" if low == SMALLEST else f"from {low:g} to {high:g}"
            if SMALLEST > value > 0 and low == SMALLEST:
                range_ = f"from {low:g} to {high:g}"
            raise SamplingError(f"{name} must be {or_zero}{range_}{note}, got {shown(getattr(self, name))}")
        self._set(name, value)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def preset(cls, name: str, options: SamplingOptions | None = None) -> Sampling:
        """Return a preset, optionally with some controls overridden.

        Args:
            name: `"balanced"` (temperature 0.8, then top_p 0.95; the default of the command line), `"basic"` (the
                model's own distribution), `"top_k"` (40), `"top_p"` (0.9) or `"entropy"` (the ratio rule at 1.5 bits
                and temperatures of at most 1, then min_p 0.05).
            options: controls that override the preset. `"balanced"` gives way to them: `target_entropy` replaces its
                temperature, and `mirostat` its top_p.

        Raises:
            SamplingError: if the preset is unknown or a control is invalid.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise SamplingError(f"sampling must be a Sampling or one of {', '.join(PRESETS)}, got {shown(name)}")
        if name == "balanced":
            return cls.of(PRESETS[name]).override(options or {})
        return cls.of({**PRESETS[name], **(options or {})})

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Sampling:
        """Build controls from a mapping, such as keyword arguments.

        Raises:
            SamplingError: if a control is unknown or invalid.
        """
        unknown = sorted(set(options) - {f.name for f in fields(cls)})
        if unknown:
            known = [f.name for f in fields(cls)]
            meant = suggestion(unknown[0], known)
            advice = f"the controls are {', '.join(known)}" if meant is None else f"did you mean {meant}?"
            raise SamplingError(f"unknown control {', '.join(unknown)}; {advice}")
        return cls(**options)

    def override(self, options: Mapping[str, Any]) -> Sampling:
        """Return a copy with some controls replaced. Controls that exclude the new ones are turned off.

        Raises:
            SamplingError: if a control is unknown or invalid, or two of `options` exclude each other.
        """
        excluded: set[str] = set()
        if options.get("target_entropy") is not None:
            excluded.add("temperature")
        if options.get("temperature", 1) != 1:
            excluded.add("target_entropy")
        if options.get("mirostat") is not None:
            excluded |= {*_FILTERS, *(["temperature"] if self.temperature == 0 else [])}
        elif any(name in options and options[name] != _OFF[name] for name in _FILTERS):
            excluded.add("mirostat")
        kept = {name: value for name, value in vars(self).items() if name not in excluded}
        return Sampling.of({**kept, **options})

    @classmethod
    def resolve(cls, sampling: str | Sampling, options: SamplingOptions | None = None) -> Sampling:
        """Return controls, or the preset of that name, with `options` overriding some of them.

        Raises:
            SamplingError: if the preset is unknown or a control is invalid.
        """
        if isinstance(sampling, Sampling):
            return cls.of({**vars(sampling), **options}) if options else sampling
        return cls.preset(sampling, options)

    def bias_array(self, vocab_size: int) -> npt.NDArray[np.float64] | None:
        """Return `logit_bias` as an array [V], or None if it is empty.

        A constant added to all logits changes nothing. It is chosen so that the largest bias is 0: in float32, a
        large bias would swallow the logits of the tokens that have it, which are the likely ones.

        Raises:
            SamplingError: if a key is not a token id, or every token is banned.
        """
        if not self.logit_bias:
            return None
        bias = np.zeros(vocab_size)
        for token, value in self.logit_bias.items():
            if not isinstance(token, (int, np.integer)) or not 0 <= token < vocab_size:
                raise SamplingError(f"logit_bias takes token ids from 0 to {vocab_size - 1}, got {token!r}")
            bias[token] = value
        if np.isneginf(bias).all():
            raise SamplingError("logit_bias bans every token; leave at least one")
        bias -= bias.max()
        return bias


WHOLE_CONTROLS = tuple(f.name for f in fields(Sampling) if f.type == "int")  # the others are real numbers
_FILTERS = ("top_k", "typical_p", "top_p", "min_p")  # those that mirostat replaces
_OFF: dict[str, float] = {f.name: f.default for f in fields(Sampling) if isinstance(f.default, (int, float))}


def each_sampling(sampling: str | Sampling | Iterable[str | Sampling], count: int) -> list[Sampling]:
    """Return the controls of each of `count` prompts, given once for all or one by one; equal presets share an object.

    Raises:
        SamplingError: if the number of controls is not `count`, or a control is invalid.
    """
    if isinstance(sampling, (str, Sampling)) or not isinstance(sampling, Iterable):
        return [Sampling.resolve(sampling)] * count
    given = list(sampling)
    if len(given) != count:
        raise SamplingError(f"got {len(given)} controls for {count} prompts; give one for all, or one per prompt")
    presets = {name: Sampling.preset(name) for name in given if isinstance(name, str)}
    return [presets[each] if isinstance(each, str) else Sampling.resolve(each) for each in given]


def resolve_seed(seed: int | None) -> int:
    """Return the seed; if None, draw one of 32 bits, which is short enough to type.

    Raises:
        SamplingError: if the seed is not a whole number in [0, 2**64).
    """
    if seed is None:
        return int.from_bytes(os.urandom(4), "little")
    return whole_number("seed", seed, 0, 2**64 - 1, error=SamplingError)


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenStats:
    """Statistics of each generated token, as float64 arrays [N].

    The model's distribution is the one before bias, temperature and filters.

    Attributes:
        entropy: entropy of the model's distribution, in bits.
        sampled_entropy: entropy of the distribution drawn from, after temperature and filters, in bits.
        confidence: probability of the model's most likely token.
        temperature: temperature used; 0 for greedy.
        surprise: -log2 of the model's probability of the token, in bits.
    """

    entropy: npt.NDArray[np.float64]
    sampled_entropy: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    temperature: npt.NDArray[np.float64]
    surprise: npt.NDArray[np.float64]

    @property
    def log_probs(self) -> npt.NDArray[np.float64]:
        """Natural logarithm of the model's probability of each token, before bias, temperature and filters."""
        return -math.log(2) * self.surprise

    def __len__(self) -> int:
        return len(self.entropy)

    def __getitem__(self, part: slice) -> TokenStats:
        return TokenStats(**{f.name: getattr(self, f.name)[part] for f in fields(self)})

    @classmethod
    def from_array(cls, array: npt.NDArray[np.float64]) -> TokenStats:
        """Build statistics from an array [N, 5] with one column per attribute, in order."""
        return cls(**dict(zip(_STATS, array.T, strict=True)))

    @classmethod
    def concatenate(cls, parts: list[TokenStats]) -> TokenStats:
        """Concatenate the statistics of successive tokens."""
        return cls(**{f.name: np.concatenate([np.empty(0), *(getattr(p, f.name) for p in parts)]) for f in fields(cls)})


_STATS = tuple(each.name for each in fields(TokenStats))


class Stats(TypedDict):
    """Summary of the statistics of generated tokens, with the seed that drew them.

    Entropies and surprise are in bits. Entropies other than `mean_sampled_entropy` are of the model's distribution.
    All statistics are NaN if no token was generated.
    """

    seed: int
    tokens: int
    mean_entropy: float
    min_entropy: float
    max_entropy: float
    entropy_std: float
    mean_sampled_entropy: float
    mean_confidence: float
    mean_temp: float
    mean_surprise: float


class Summary:
    """Running `Stats` of tokens that arrive in chunks, in constant memory."""

    def __init__(self) -> None:
        self._tokens = 0
        self._means = dict.fromkeys((f.name for f in fields(TokenStats)), math.nan)
        self._squares = 0.0  # sum of squared deviations of the entropies from their mean
        self._least, self._most = math.inf, -math.inf

    def add(self, stats: TokenStats) -> None:
        """Add a chunk of tokens."""
        if not len(stats):
            return
        before, self._tokens = self._tokens, self._tokens + len(stats)
        mean = float(stats.entropy.mean())
        # Chan, Golub and LeVeque 1983: combine the squared deviations of two groups.
        self._squares += float(((stats.entropy - mean) ** 2).sum())
        if before:
            self._squares += (mean - self._means["entropy"]) ** 2 * before * len(stats) / self._tokens
        for name, old in self._means.items():
            new = float(getattr(stats, name).mean())
            self._means[name] = old + (new - old) * len(stats) / self._tokens if before else new
        self._least = min(self._least, float(stats.entropy.min()))
        self._most = max(self._most, float(stats.entropy.max()))

    def stats(self, seed: int) -> Stats:
        """Return means, range and standard deviation over the tokens so far."""
        return Stats(
            seed=seed,
            tokens=self._tokens,
            mean_entropy=self._means["entropy"],
            min_entropy=self._least if self._tokens else math.nan,
            max_entropy=self._most if self._tokens else math.nan,
            entropy_std=math.sqrt(self._squares / self._tokens) if self._tokens else math.nan,
            mean_sampled_entropy=self._means["sampled_entropy"],
            mean_confidence=self._means["confidence"],
            mean_temp=self._means["temperature"],
            mean_surprise=self._means["surprise"],
        )


def summarize(stats: TokenStats, seed: int) -> Stats:
    """Return means, range and standard deviation over the tokens."""
    summary = Summary()
    summary.add(stats)
    return summary.stats(seed)


def summarize_rows(stats: TokenStats, lengths: npt.NDArray[np.int64], seed: int) -> list[Stats]:
    """Return `summarize` of each row of a batch.

    Args:
        stats: statistics of all tokens, row after row.
        lengths: number of tokens of each row, [rows].
        seed: seed of the batch.
    """
    some = lengths > 0
    starts = (np.cumsum(lengths) - lengths)[some]

    def by_row(reduce: np.ufunc, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        out = np.full(len(lengths), math.nan)
        if starts.size:
            out[some] = reduce.reduceat(values, starts)
        return out

    count = np.maximum(lengths, 1)
    means = {f.name: by_row(np.add, getattr(stats, f.name)) / count for f in fields(TokenStats)}
    squares = by_row(np.add, (stats.entropy - np.repeat(means["entropy"], lengths)) ** 2)
    columns = (
        lengths, means["entropy"], by_row(np.minimum, stats.entropy), by_row(np.maximum, stats.entropy),
        np.sqrt(squares / count), means["sampled_entropy"], means["confidence"], means["temperature"],
        means["surprise"],
    )  # fmt: skip
    names = [name for name in Stats.__annotations__ if name != "seed"]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [{"seed": seed, **dict(zip(names, row, strict=True))} for row in rows]  # type: ignore[typeddict-item]
