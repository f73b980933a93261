"""Inspect a model on a text: the attention of its heads and its predictions for each character.

Symbols: N characters, L blocks, H heads, T longest window, V vocabulary size, J = min(N, T) columns of attention.

Character t is predicted from the tokens before it: read[t] is character t - 1, and read[0] is the start token, as in
`LanguageModel.score`. Row t of the attention therefore belongs to the prediction of character t. In a relative model,
column j is the character j positions before the one being read; in an absolute model, it is slot j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from knock import reference
from knock.choices import Unknown
from knock.config import ModelConfig
from knock.errors import GenerationError, TextError
from knock.language_model import LanguageModel
from knock.vocab import TokenArray
from knock.weights import Weights

Array = npt.NDArray[np.float64]
Kind = Literal["weights", "reweight", "content"]

LONGEST_TEXT = 4096  # characters
OWN_TEXT_SEED = 0
OWN_ITEMS = 50  # of which the longest is inspected
_OWN_TEXT = 300  # minimum length of a generated text
_MAX_NUMBERS = 2**25  # numbers per array, to bound memory: the reference expands the keys of every position's window
# Parameters of a block that each kind of attention leaves out.
_WITHOUT: dict[Kind, tuple[str, ...]] = {"weights": (), "reweight": ("wq", "wk", "gate"), "content": ("wr", "gate")}


class Patterns(NamedTuple):
    """Attention by column of the window or by distance, averaged over inputs.

    Attributes:
        mean: Mean over the inputs, [L, H, J] float64; NaN in a column that no input sees or that is past the window of
            the block, and in a block without the kind of logits.
        spread: Standard deviation over the inputs, [L, H, J] float64; NaN where the mean is.
        inputs: Number of inputs that see each column, [J] int64.
    """

    mean: Array
    spread: Array
    inputs: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """Attention of every head at every position of a token sequence.

    Attributes:
        config: Configuration of the model.
        read: Tokens read, [N] int32.
        weights: Attention weights, [L, H, N, J] float64. Rows sum to 1; columns that hold no character yet, or are past
            the window of the block, are 0.
        reweight: The same for the reweight logits alone, softmax(R); NaN in blocks without them, None if all are.
        content: The same for the content logits alone, softmax(S); NaN in blocks without them, None if all are.
        gates: Weight of the reweight logits in the mixture, [L, H] float64; NaN in blocks whose heads are not hybrid,
            None if no heads are.
    """

    config: ModelConfig
    read: TokenArray
    weights: Array
    reweight: Array | None
    content: Array | None
    gates: Array | None

    def patterns(
        self, kind: Kind = "weights", *, token: int | None = None, by: Literal["column", "distance"] = "column"
    ) -> Patterns:
        """Average attention over the positions that see a full window, or over all positions if none does.

        Args:
            kind: `"weights"` for the attention of the heads; `"reweight"` or `"content"` for that of either kind of
                logits alone.
            token: If given, only positions where this token is read.
            by: What each of the J averages is taken over: a column of the window, or the characters at one distance,
                from 1 to J. In a relative model they are the same.

        Raises:
            ValueError: if the heads have no logits of that kind.
        """
        rows, chosen = self._chosen(kind, token)
        back = self.back()[rows]
        if by == "distance" and self.config.position == "absolute":
            # A row sees its n characters in columns 0 to n - 1, the last of them at distance 1.
            columns = (back > 0).sum(1, keepdims=True) - 1 - np.arange(back.shape[1])
            chosen = np.take_along_axis(chosen, np.maximum(columns, 0)[None, None], -1)
            chosen = np.where(columns >= 0, chosen, 0)
        seen = back > 0
        inputs = seen.sum(0)
        reach = self.config.windows if kind != "reweight" else self.config.reweight_windows
        with np.errstate(invalid="ignore"):  # 0/0 is NaN, for columns without inputs
            mean = chosen.sum(2) / inputs  # unseen columns have weight 0
            squares = np.where(seen, (chosen - mean[:, :, None]) ** 2, 0).sum(2)
            is_past = np.arange(back.shape[1]) >= np.array(reach)[:, None, None]
            mean, spread = (np.where(is_past, np.nan, each) for each in (mean, np.sqrt(squares / inputs)))
            return Patterns(mean, spread, inputs)

    def mean_distance(self, *, token: int | None = None) -> Array:
        """Return the mean distance back of each head's attention, over the positions of `patterns`, [L, H]."""
        rows, chosen = self._chosen("weights", token)
        distance: Array = (chosen * self.back()[rows]).sum(-1).mean(-1)
        return distance

    def _chosen(self, kind: Kind, token: int | None) -> tuple[npt.NDArray[np.int64], Array]:
        """Return the positions to average over, [n], and their attention, [L, H, n, J]."""
        weights: Array | None = getattr(self, kind)
        if weights is None:
            raise ValueError(f"{' and '.join(sorted(set(self.config.head_types)))} heads have no {kind} logits")
        rows = np.arange(len(self.read)) if token is None else np.flatnonzero(self.read == token)
        full = self.config.longest_window - 1
        if (rows >= full).any():
            rows = rows[rows >= full]
        return rows, weights[:, :, rows]

    def back(self) -> npt.NDArray[np.int64]:
        """Return the distance from character t back to column j, [N, J] int64.

        1 is the previous character; 0 is a column that holds no character yet.
        """
        t, j = np.arange(len(self.read))[:, None], np.arange(self.weights.shape[-1])
        if self.config.position == "relative":
            return np.where(j <= t, j + 1, 0)
        first = np.maximum(0, t - self.config.longest_window + 1)  # first position of the sliding window
        back: npt.NDArray[np.int64] = np.maximum(0, t - first - j + 1)
        return back

    def looked_at(self, weights: Array, top: int) -> tuple[npt.NDArray[np.int64], Array]:
        """Return the columns with the largest weights, in descending order.

        Args:
            weights: Weights, [..., N, J], such as those of a head or a mean over heads.
            top: Number of columns; K = min(top, J).

        Returns:
            Distance of each column, as in `back`, and its weight, both [..., N, K].
        """
        columns = np.argsort(-weights, axis=-1, kind="stable")[..., :top]
        back = np.broadcast_to(self.back(), weights.shape)
        return np.take_along_axis(back, columns, -1), np.take_along_axis(weights, columns, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """Attention and predictions of a model on a text of N characters.

    Attributes:
        text: The text, as the model reads it.
        attention: Attention for the prediction of each character.
        entropy: Entropy of each prediction in bits, [N] float64.
        surprise: -log2 of the probability of each character, in bits, [N] float64.
        alternatives: Most likely tokens, in descending order, [N, K] int32.
        probabilities: Their probabilities, [N, K] float64.
    """

    text: str
    attention: Attention
    entropy: Array
    surprise: Array
    alternatives: TokenArray
    probabilities: Array


def inspect_text(model: LanguageModel, text: str, *, unknown: Unknown = "error", top: int = 5) -> Inspection:
    """Inspect a model on a text.

    Attention is computed by the float64 reference, predictions by the model's own engine.

    Args:
        model: The model.
        text: From 1 to `longest_text` characters.
        unknown: How to handle characters that the model does not know: raise, skip or replace them.
        top: Number of alternatives to return for each character; K = min(top, V).

    Raises:
        VocabError: if the text has an unknown character and `unknown` is `"error"`.
        TextError: if the text is empty or too long.
        GenerationError: if the logits are not finite.
    """
    tokens = model.vocab.encode(text, unknown=unknown)
    longest = longest_text(model.model.config)
    if not 1 <= len(tokens) <= longest:
        raise TextError(
            f"a text to inspect must have from 1 to {longest:,} characters that the model knows, got {len(tokens):,}; "
            f"{'pass a part of it' if len(tokens) else 'pass another text'}"
        )
    read = np.append(model.vocab.start_id, tokens[:-1]).astype(np.int32)
    log_p = _log_probs(model, read)
    p = np.exp(log_p)
    alternatives = np.argsort(-p, axis=-1, kind="stable")[:, :top].astype(np.int32)
    return Inspection(
        text=model.vocab.decode(tokens),
        attention=attend(model.model.weights, read),
        entropy=0.0 - (p * np.where(p > 0, log_p, 0)).sum(-1) / math.log(2),  # 0 - x avoids -0.0
        surprise=0.0 - log_p[np.arange(len(tokens)), tokens] / math.log(2),
        alternatives=alternatives,
        probabilities=np.take_along_axis(p, alternatives, -1),
    )


def attend(weights: Weights, read: TokenArray) -> Attention:
    """Compute the attention of every head at each of N >= 1 tokens, [N]."""
    config, T = weights.config, weights.config.longest_window
    arrays = {name: array.astype(np.float64) for name, array in weights.items()}
    slides = config.position == "absolute" and len(read) > T
    pieces = [_attend_window(read[:T] if slides else read, arrays, config)]
    if slides:  # each position past T needs its own forward pass; only its last row is used
        windows, count = np.lib.stride_tricks.sliding_window_view(read, T)[1:], max(1, LONGEST_TEXT // T)
        for start in range(0, len(windows), count):
            slid = _attend_window(windows[start : start + count], arrays, config)
            pieces.append({kind: np.moveaxis(each[..., -1, :], 1, 2) for kind, each in slid.items()})
    kinds = {kind: np.concatenate([piece[kind] for piece in pieces], 2)[..., : len(read)] for kind in pieces[0]}
    no_gates = np.full(config.n_heads, np.nan)
    return Attention(
        config=config,
        read=read,
        weights=kinds["weights"],
        reweight=kinds.get("reweight"),
        content=kinds.get("content"),
        gates=np.array([arrays.get(f"blocks.{b}.gate", no_gates) for b in range(config.n_blocks)])
        if config.has_hybrid
        else None,
    )


def character_patterns(model: LanguageModel, seen: Attention, char: str) -> tuple[Patterns, bool]:
    """Return the attention of each head when it reads a given character, by column of the window.

    Args:
        model: The model.
        seen: Its attention on a text.
        char: The character.

    Returns:
        The patterns over the positions where the character is read, and True. If there are none, the patterns of a
        single position, with the character substituted for the last one read, and False.

    Raises:
        VocabError: if the model does not know the character.
    """
    attention, token = with_character(model, seen, char)
    return attention.patterns(token=token), attention is seen


def with_character(model: LanguageModel, seen: Attention, char: str) -> tuple[Attention, int]:
    """Return attention on a text in which a given character is read, and the token of the character.

    It is the given attention if that reads the character; otherwise, the character is substituted for the last one.

    Raises:
        VocabError: if the model does not know the character.
    """
    token = int(model.vocab.encode(char)[0])
    if token in seen.read:
        return seen, token
    read = seen.read.copy()
    read[-1] = token
    return attend(model.model.weights, read), token


def own_text(model: LanguageModel) -> str:
    """Generate a text to inspect, with a fixed seed; it spans at least two windows if `longest_text` allows.

    In a model of items, it is the longest of several; empty only if all of them are.
    """
    config = model.model.config
    length = min(max(_OWN_TEXT, 2 * config.longest_window), longest_text(config))
    if not model.vocab.has_boundary:
        return model.generate(max_new_tokens=length, seed=OWN_TEXT_SEED).text
    items = model.generate_batch([""], n=OWN_ITEMS, max_new_tokens=length, seed=OWN_TEXT_SEED)
    return max((item.text for item in items), key=len)


def longest_text(config: ModelConfig) -> int:
    """Return the maximum number of characters that can be inspected at once."""
    per_position = config.longest_window * max(config.n_emb, config.n_blocks * config.n_heads)
    return min(LONGEST_TEXT, max(1, _MAX_NUMBERS // per_position))


def _attend_window(tokens: TokenArray, arrays: Mapping[str, Array], config: ModelConfig) -> dict[Kind, Array]:
    """Compute each kind of attention in a window that does not slide, [..., N] -> [L, ..., H, N, J]."""
    kinds: dict[Kind, str] = {"weights": "wv"}  # and the array without which a block has none
    if config.has_reweight:
        kinds["reweight"] = "wr"
    if config.has_content:
        kinds["content"] = "wq"
    found: dict[Kind, list[Array]] = {kind: [] for kind in kinds}
    columns = config.longest_window if config.position == "relative" else tokens.shape[-1]
    x = arrays["embed"][tokens]
    if config.position == "absolute":
        x = x + arrays["pos"][: tokens.shape[-1]]
    with np.errstate(all="ignore"):
        for b, (T, reweight_T, _) in enumerate(config.blocks):
            prefix = f"blocks.{b}."
            block = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            n = reference.layer_norm(x, block["ln1.gain"], block["ln1.bias"])
            for kind, each in found.items():
                part = {name: array for name, array in block.items() if name not in _WITHOUT[kind]}
                if kinds[kind] in part:
                    reach = reweight_T if kind == "reweight" else T
                    each.append(_widened(reference.attention_weights(n, part, reach, config), columns))
                else:
                    each.append(np.full((*tokens.shape[:-1], config.n_heads, tokens.shape[-1], columns), np.nan))
            x = x + reference.attention(n, block, T, config)
            n = reference.layer_norm(x, block["ln2.gain"], block["ln2.bias"])
            x = x + reference.mlp(n, block["w0"], block["w1"])
    return {kind: np.stack(each) for kind, each in found.items()}


def _widened(weights: Array, columns: int) -> Array:
    """Add columns of zeros, past the window of a block: [..., J] -> [..., columns]."""
    width = weights.shape[-1]
    if width == columns:
        return weights
    wide = np.zeros((*weights.shape[:-1], columns))
    wide[..., :width] = weights
    return wide


def _log_probs(model: LanguageModel, read: TokenArray) -> Array:
    """Return the log-probabilities of the next token in nats, [N] -> [N, V]."""
    logits = model.model.engine.logits(read).astype(np.float64)
    finite = np.isfinite(logits).all(-1)
    if not finite.all():
        raise GenerationError.not_finite(int(finite.argmin()))
    return reference.log_softmax(logits)
