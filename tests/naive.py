"""Twins of the reference in Python numbers and loops, written from the formulas: what the oracle is checked against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Row = list[float]


def forward(tokens: Sequence[int], a: dict[str, Any], config: Any) -> list[Row]:
    """Logits at every position, the window of an absolute model sliding past T."""
    if config.position == "absolute" and len(tokens) > config.windows[0]:
        T = config.windows[0]
        first = forward(tokens[:T], a, config)
        ends = range(T + 1, len(tokens) + 1)
        return first + [forward(tokens[end - T : end], a, config)[-1] for end in ends]
    xs: list[Row] = [list(a["embed"][token]) for token in tokens]
    if config.position == "absolute":
        xs = [[u + v for u, v in zip(x, a["pos"][slot], strict=True)] for slot, x in enumerate(xs)]
    for b in range(config.n_blocks):
        p = f"blocks.{b}."
        ns = [layer_norm(x, a[p + "ln1.gain"], a[p + "ln1.bias"]) for x in xs]
        heads = [head(ns, b, h, a, config) for h in range(config.n_heads)]
        for t, x in enumerate(xs):
            attended = [value for per_position in heads for value in per_position[t]]
            x[:] = [u + v for u, v in zip(x, attended, strict=True)]
            n = layer_norm(x, a[p + "ln2.gain"], a[p + "ln2.bias"])
            out = times([gelu(u) for u in times(n, a[p + "w0"])], a[p + "w1"])
            x[:] = [u + v for u, v in zip(x, out, strict=True)]
    return [times(layer_norm(x, a["ln_f.gain"], a["ln_f.bias"]), a["wout"]) for x in xs]


def head(ns: list[Row], b: int, h: int, a: dict[str, Any], config: Any) -> list[Row]:
    p, T, D = f"blocks.{b}.", config.windows[b], config.n_emb // config.n_heads
    mine = slice(h * D, (h + 1) * D)
    out = []
    for t in range(len(ns)):
        seen = range(max(0, t - T + 1), t + 1)
        logits = [logit(ns, t, s, b, h, a, config) for s in seen]
        weights = softmax(logits)
        values = [times(ns[s], a[p + "wv"][:, mine]) for s in seen]
        out.append([sum(w * v[d] for w, v in zip(weights, values, strict=True)) for d in range(D)])
    return out


def logit(ns: list[Row], t: int, s: int, b: int, h: int, a: dict[str, Any], config: Any) -> float:
    """What position t gives to position s in its window, before the softmax."""
    p, D, kind, reach = f"blocks.{b}.", config.n_emb // config.n_heads, config.head_types[b], config.reweight_windows[b]
    mine = slice(h * D, (h + 1) * D)
    g = {"hybrid": lambda: a[p + "gate"][h], "reweight": lambda: 1.0, "content": lambda: 0.0}[kind]()
    out = 0.0
    column = t - s if config.position == "relative" else s
    if kind != "content" and column < reach:
        out += g * dot(ns[t], a[p + "wr"][:, h * reach + column])
    if kind != "reweight":
        q, k = times(ns[t], a[p + "wq"][:, mine]), times(ns[s], a[p + "wk"][:, mine])
        out += (1 - g) * dot(q, k) / math.sqrt(D)
    return out


def layer_norm(x: Row, gain: Row, bias: Row) -> Row:
    mean = sum(x) / len(x)
    variance = sum((u - mean) ** 2 for u in x) / len(x)
    return [(u - mean) / math.sqrt(variance + 1e-5) * g + c for u, g, c in zip(x, gain, bias, strict=True)]


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def dot(x: Row, y: Row) -> float:
    return sum(u * v for u, v in zip(x, y, strict=True))


def times(x: Row, w: Any) -> Row:
    return [dot(x, w[:, column]) for column in range(w.shape[1])]


def softmax(logits: Row) -> Row:
    largest = max(logits)
    weights = [math.exp(z - largest) for z in logits]
    return [w / sum(weights) for w in weights]


def entropy(p: Row) -> float:
    return -sum(u * math.log2(u) for u in p if u > 0)


def distribution(logits: Sequence[float], controls: Any, temperature: float, mu: float = 0.0) -> Row:
    """What the pipeline draws from, at a given temperature: the list of survivors shrinks filter by filter."""
    z = dict(enumerate(logits))
    for token, bias in controls.logit_bias.items():
        z[token] += bias
    z = {i: v for i, v in z.items() if v > -math.inf}
    if controls.top_n_sigma:
        mean = sum(z.values()) / len(z)
        sigma = math.sqrt(sum((v - mean) ** 2 for v in z.values()) / len(z))
        z = {i: v for i, v in z.items() if v >= max(z.values()) - controls.top_n_sigma * sigma}
    z = {i: v / temperature for i, v in z.items()}
    if controls.mirostat is not None:
        p = probabilities(z)
        likeliest = max(p, key=lambda i: p[i])
        z = {i: v for i, v in z.items() if -math.log2(p[i]) <= mu or i == likeliest}
    if controls.top_k:
        z = {i: z[i] for i in sorted(z, key=lambda i: (-z[i], i))[: controls.top_k]}
    if controls.typical_p < 1:
        p = probabilities(z)
        h = entropy(list(p.values()))
        z = up_to(z, sorted(z, key=lambda i: (abs(-math.log2(p[i]) - h), i)), controls.typical_p)
    if controls.top_p < 1:
        z = up_to(z, sorted(z, key=lambda i: (-z[i], i)), controls.top_p)
    if controls.min_p:
        p = probabilities(z)
        z = {i: v for i, v in z.items() if p[i] >= controls.min_p * max(p.values())}
    p = probabilities(z)
    return [p.get(i, 0.0) for i in range(len(logits))]


def probabilities(z: dict[int, float]) -> dict[int, float]:
    return dict(zip(z, softmax(list(z.values())), strict=True))


def up_to(z: dict[int, float], order: list[int], mass: float) -> dict[int, float]:
    p, kept, held = probabilities(z), {}, 0.0
    for i in order:
        if held >= mass:
            break
        kept[i] = z[i]
        held += p[i]
    return kept
