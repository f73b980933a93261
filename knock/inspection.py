"""What a model does on a text: where its heads look, and what it expects at each character.

Character t is expected from what was read before it: read[t] is character t - 1, and read[0] the token that every
text starts from, as in `LanguageModel.score`. So row t of the attention tells where the model looked for character t.
L blocks of H heads each divide their attention over a window of J = min(N, T) columns, N characters, T the model's
window: column j is the character j back from the one that is read in a relative model, slot j in an absolute one.
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
_OWN_TEXT = 300  # characters of a text that the model writes itself
_NUMBERS = 2**25  # in one array, which bounds the memory: the reference lays out the keys of every position's window
# What each kind of attention leaves out of a block.
_WITHOUT: dict[Kind, tuple[str, ...]] = {"weights": (), "reweight": ("wq", "wk", "gate"), "content": ("wr", "gate")}


class Patterns(NamedTuple):
    """How heads divide their attention over the window, whatever is in it.

    Attributes:
        mean: over the inputs, float64 of shape (L, H, J); NaN in a column that no input has.
        spread: standard deviation over the inputs, float64 of shape (L, H, J).
        inputs: how many positions of the text the column is an average of, int64 of shape (J,).
    """

    mean: Array
    spread: Array
    inputs: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """Where the heads of a model look, at each position of what it reads.

    Attributes:
        config: the model's shape.
        read: what is read, int32 of shape (N,).
        weights: how much of its attention each head gives to each column, float64 of shape (L, H, N, J); rows sum to 1,
            and columns that are not there yet get 0.
        reweight: the same of the reweight logits alone, softmax(R); None for content heads.
        content: the same of the content logits alone, softmax(S); None for reweight heads.
        gates: the part of the reweight logits in the mixture, float64 of shape (L, H); None where nothing is mixed.
    """

    config: ModelConfig
    read: TokenArray
    weights: Array
    reweight: Array | None
    content: Array | None
    gates: Array | None

    def patterns(self, kind: Kind = "weights", *, token: int | None = None) -> Patterns:
        """Attention by column, over the positions that see a whole window; over all, in a text that has none.

        Args:
            kind: `"weights"`, what the heads do; `"reweight"` or `"content"`, what either kind of logits alone would.
            token: only over the positions where this one is read.

        Raises:
            ValueError: if the heads have no logits of that kind.
        """
        weights: Array | None = getattr(self, kind)
        if weights is None:
            raise ValueError(f"{self.config.head_type} heads have no {kind} logits")
        rows = np.arange(len(self.read)) if token is None else np.flatnonzero(self.read == token)
        if (rows >= self.config.T - 1).any():
            rows = rows[rows >= self.config.T - 1]
        seen = (self.back() > 0)[rows]
        inputs = seen.sum(0)
        chosen = weights[:, :, rows]
        with np.errstate(invalid="ignore"):  # 0/0 is NaN, where there is no input
            mean = chosen.sum(2) / inputs  # what is not seen has no weight
            squares = np.where(seen, (chosen - mean[:, :, None]) ** 2, 0).sum(2)
            return Patterns(mean, np.sqrt(squares / inputs), inputs)

    def back(self) -> npt.NDArray[np.int64]:
        """How far before character t column j lies: 1 the character before it; 0 where there is nothing. (N, J)."""
        t, j = np.arange(len(self.read))[:, None], np.arange(self.weights.shape[-1])
        if self.config.position == "relative":
            return np.where(j <= t, j + 1, 0)
        first = np.maximum(0, t - self.config.T + 1)  # of the window, which slides
        back: npt.NDArray[np.int64] = np.maximum(0, t - first - j + 1)
        return back

    def looked_at(self, weights: Array, top: int) -> tuple[npt.NDArray[np.int64], Array]:
        """The columns with the most of some weights, the first the most: [..., N, J] -> [..., N, K], [..., N, K].

        Args:
            weights: those of a head, say, or their mean over heads.
            top: how many columns, K, where there are as many.

        Returns:
            How far back each column lies, as in `back`, and its weight.
        """
        columns = np.argsort(-weights, axis=-1, kind="stable")[..., :top]
        back = np.broadcast_to(self.back(), weights.shape)
        return np.take_along_axis(back, columns, -1), np.take_along_axis(weights, columns, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """What a model does on a text of N characters.

    Attributes:
        text: the text, as the model reads it.
        attention: where it looked for each character, and what it read.
        entropy: of what it expected, in bits, float64 of shape (N,).
        surprise: -log2 of the probability it gave the character, in bits, float64 of shape (N,).
        alternatives: the tokens it held most likely, the first the most, int32 of shape (N, K).
        probabilities: of those, float64 of shape (N, K).
    """

    text: str
    attention: Attention
    entropy: Array
    surprise: Array
    alternatives: TokenArray
    probabilities: Array


def inspect_text(model: LanguageModel, text: str, *, unknown: Unknown = "error", top: int = 5) -> Inspection:
    """Look at a model while it reads a text. Attention is the float64 reference's; probabilities are the engine's.

    Args:
        model: the model.
        text: at least one character, and at most `longest_text`.
        unknown: what to do with a character that the model does not know.
        top: how many of the most likely characters to tell, where there are as many.

    Raises:
        VocabError: if the text has an unknown character.
        TextError: if there is nothing to read, or too much.
        GenerationError: if the logits are not finite.
    """
    tokens = model.vocab.encode(text, unknown=unknown)
    longest = longest_text(model.model.config)
    if not 1 <= len(tokens) <= longest:
        raise TextError(
            f"a text to inspect has from 1 to {longest:,} characters that the model knows, got {len(tokens):,}; "
            f"{'give a part of it' if len(tokens) else 'give another'}"
        )
    read = np.append(model.vocab.start_id, tokens[:-1]).astype(np.int32)
    log_p = _log_probs(model, read)
    p = np.exp(log_p)
    alternatives = np.argsort(-p, axis=-1, kind="stable")[:, :top].astype(np.int32)
    return Inspection(
        text=model.vocab.decode(tokens),
        attention=attend(model.model.weights, read),
        entropy=0.0 - (p * np.where(p > 0, log_p, 0)).sum(-1) / math.log(2),  # 0 -, not -: there is no -0.0
        surprise=0.0 - log_p[np.arange(len(tokens)), tokens] / math.log(2),
        alternatives=alternatives,
        probabilities=np.take_along_axis(p, alternatives, -1),
    )


def attend(weights: Weights, read: TokenArray) -> Attention:
    """Where the heads look at each position of at least one token: (N,)."""
    config, T = weights.config, weights.config.T
    arrays = {name: array.astype(np.float64) for name, array in weights.items()}
    slides = config.position == "absolute" and len(read) > T
    pieces = [_attend_window(read[:T] if slides else read, arrays, config)]
    if slides:  # each position past T has a forward pass of its own, of which the last row counts
        windows, count = np.lib.stride_tricks.sliding_window_view(read, T)[1:], max(1, LONGEST_TEXT // T)
        for start in range(0, len(windows), count):
            slid = _attend_window(windows[start : start + count], arrays, config)
            pieces.append({kind: np.moveaxis(each[..., -1, :], 1, 2) for kind, each in slid.items()})
    kinds = {kind: np.concatenate([piece[kind] for piece in pieces], 2)[..., : len(read)] for kind in pieces[0]}
    is_mixed = config.head_type == "hybrid"
    return Attention(
        config=config,
        read=read,
        weights=kinds["weights"],
        reweight=kinds.get("reweight"),
        content=kinds.get("content"),
        gates=np.array([arrays[f"blocks.{b}.gate"] for b in range(config.n_blocks)]) if is_mixed else None,
    )


def character_patterns(model: LanguageModel, seen: Attention, char: str) -> tuple[Patterns, bool]:
    """How each head divides its attention when it reads one character.

    Args:
        model: the model.
        seen: its attention on a text.
        char: the character.

    Returns:
        The patterns over the places of the text where the character is read, and True; where there is none, over one
        place, with the character put in place of the last one that is read, and False.

    Raises:
        VocabError: if the model does not know the character.
    """
    token = int(model.vocab.encode(char)[0])
    if token in seen.read:
        return seen.patterns(token=token), True
    read = seen.read.copy()
    read[-1] = token
    return attend(model.model.weights, read).patterns(token=token), False


def own_text(model: LanguageModel) -> str:
    """A text that the model writes itself, the same each time, as long as two windows at least where it may be."""
    config = model.model.config
    length = min(max(_OWN_TEXT, 2 * config.T), longest_text(config))
    return model.generate(max_new_tokens=length, seed=OWN_TEXT_SEED).text


def longest_text(config: ModelConfig) -> int:
    """How many characters can be inspected at once."""
    a_position = config.T * max(config.n_emb, config.n_blocks * config.n_heads)
    return min(LONGEST_TEXT, max(1, _NUMBERS // a_position))


def _attend_window(tokens: TokenArray, arrays: Mapping[str, Array], config: ModelConfig) -> dict[Kind, Array]:
    """Attention of each kind that the heads have, in a window that does not slide: [..., N] -> [L, ..., H, N, J]."""
    found: dict[Kind, list[Array]] = {"weights": []}
    if config.has_reweight:
        found["reweight"] = []
    if config.has_content:
        found["content"] = []
    x = arrays["embed"][tokens]
    if config.position == "absolute":
        x = x + arrays["pos"][: tokens.shape[-1]]
    with np.errstate(all="ignore"):
        for b in range(config.n_blocks):
            prefix = f"blocks.{b}."
            block = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            n = reference.layer_norm(x, block["ln1.gain"], block["ln1.bias"])
            for kind, each in found.items():
                part = {name: array for name, array in block.items() if name not in _WITHOUT[kind]}
                each.append(reference.attention_weights(n, part, config))
            x = x + reference.attention(n, block, config)
            n = reference.layer_norm(x, block["ln2.gain"], block["ln2.bias"])
            x = x + reference.mlp(n, block["w0"], block["w1"])
    return {kind: np.stack(each) for kind, each in found.items()}


def _log_probs(model: LanguageModel, read: TokenArray) -> Array:
    """Log-probabilities in nats of what may follow each token: (N,) -> (N, V)."""
    logits = model.model.engine.logits(read).astype(np.float64)
    finite = np.isfinite(logits).all(-1)
    if not finite.all():
        raise GenerationError.not_finite(int(finite.argmin()))
    shifted = logits - logits.max(-1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_p
