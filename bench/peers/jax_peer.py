"""JAX: the whole generation loop, with sampling, as one `lax.scan`, compiled once per length."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bench.peers import Tokens
from bench.peers.folded import Folded, fold
from knock.config import ModelConfig
from knock.weights import FloatArray, Weights

Caches = tuple[tuple[Array, Array], ...]  # per block, rings of keys [B, H, D, T] and values [B, H, T, D]


class State(NamedTuple):
    """The state of the sequences.

    Attributes:
        step: [], number of tokens seen.
        token: [B], the next token to be seen.
        caches: rings of keys and values.
        key: state of the random numbers.
    """

    step: Array
    token: Array
    caches: Caches
    key: Array


class JaxPeer:
    """The peer in JAX. Weights are constants of the compiled loop; its state is donated, so rings stay in place."""

    def __init__(self, weights: Weights, batch: int) -> None:
        self.config, self.batch = weights.config, batch
        model = partial(_step, fold(weights).map(jnp.asarray), weights.config)

        def generate(length: int, state: State) -> tuple[State, Array]:
            """Return the state after `length` steps and the tokens drawn, [B, length]."""
            key, fresh = jax.random.split(state.key)
            # The noise that jax.random.categorical adds to the logits, for all steps at once.
            noise = jax.random.gumbel(fresh, (length, batch, weights.config.vocab_size))

            def body(state: State, noise: Array) -> tuple[State, Array]:
                logits, caches = model(state.step, state.token, state.caches)
                token = jnp.argmax(logits + noise, 1).astype(jnp.int32)
                return State(state.step + 1, token, caches, state.key), token

            state, tokens = lax.scan(body, state._replace(key=key), noise)
            return state, tokens.T

        def logits(tokens: Array, state: State) -> Array:
            """Return the logits of row 0 at every position: [N, B] -> [N, V]."""

            def body(state: State, token: Array) -> tuple[State, Array]:
                logits, caches = model(state.step, token, state.caches)
                return state._replace(step=state.step + 1, caches=caches), logits[0]

            return lax.scan(body, state, tokens)[1]

        self._generate = jax.jit(generate, static_argnums=0, donate_argnums=1)
        self._logits = jax.jit(logits)
        self.reset()

    def reset(self) -> None:
        """Restart all sequences."""
        B, T, H, D = self.batch, self.config.T, self.config.n_heads, self.config.head_width
        caches = tuple((jnp.zeros((B, H, D, T)), jnp.zeros((B, H, T, D))) for _ in range(self.config.n_blocks))
        self.state = State(jnp.int32(0), jnp.zeros(B, jnp.int32), caches, jax.random.key(0))

    def logits(self, tokens: Tokens) -> FloatArray:
        """Return the logits of one sequence, computed by the steps that generate: [N] -> [N, V]. Resets the peer."""
        self.reset()
        columns = np.repeat(tokens[:, None].astype(np.int32), self.batch, axis=1)
        return np.asarray(self._logits(columns, self.state))

    def generate(self, length: int) -> Tokens:
        """Return the next tokens of every sequence, [B, length]."""
        self.state, tokens = self._generate(length, self.state)
        return np.asarray(tokens)


def _step(w: Folded[Array], config: ModelConfig, step: Array, token: Array, caches: Caches) -> tuple[Array, Caches]:
    """Return the logits after one more token and the updated rings: [], [B], caches -> [B, V], caches."""
    T, H, D = config.T, config.n_heads, config.head_width
    slot = step % T
    distance = (step - jnp.arange(T)) % T  # of each slot
    x = w.embed[token]
    B, C = x.shape
    updated = []
    for b, (block, cache) in enumerate(zip(w.blocks, caches, strict=True)):
        projection = w.table[token] if b == 0 else _layer_norm(x, block.ln1_gain, block.ln1_bias) @ block.w_in
        q, k, v, r = jnp.split(projection.reshape(B, H, -1), (D, 2 * D, 3 * D), axis=2)
        keys = lax.dynamic_update_slice(cache[0], k[:, :, :, None], (0, 0, 0, slot))
        values = lax.dynamic_update_slice(cache[1], v[:, :, None], (0, 0, slot, 0))
        logits = _vectors_by_matrices(q, keys) + r[:, :, T - 1 - distance]
        attention = jax.nn.softmax(jnp.where(distance <= step, logits, -jnp.inf))
        x = x + _vectors_by_matrices(attention, values).reshape(B, C)
        hidden = jax.nn.gelu(_layer_norm(x, block.ln2_gain, block.ln2_bias) @ block.w0, approximate=True)
        x = x + hidden @ block.w1
        updated.append((keys, values))
    return _layer_norm(x, w.ln_f_gain, w.ln_f_bias) @ w.wout, tuple(updated)


def _layer_norm(x: Array, gain: Array, bias: Array) -> Array:
    """Normalise each row: [B, C] -> [B, C]."""
    centred = x - x.mean(1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(1, keepdims=True) + 1e-5) * gain + bias


def _vectors_by_matrices(x: Array, y: Array) -> Array:
    """Multiply per head: [B, H, K], [B, H, K, N] -> [B, H, N]."""
    if len(x) == 1:  # a fused sum saves 40% for one sequence; batches are faster as products
        return (x[:, :, :, None] * y).sum(2)
    return jnp.einsum("bhk,bhkn->bhn", x, y)
