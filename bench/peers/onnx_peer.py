"""ONNX Runtime: one step as a graph, on buffers that are bound once and updated in place."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from bench.peers import Tokens
from bench.peers.folded import fold
from bench.peers.onnx_graph import step_graph
from bench.peers.ring import make_ring, row
from knock.weights import FloatArray, Weights


class OnnxPeer:
    """The peer in ONNX Runtime. A binding for every row of the ring makes a step a single call.

    Inputs and outputs share memory: each step reads the tokens drawn by the one before, and the rings stay in place,
    which avoids copies of all keys and values.
    """

    def __init__(self, weights: Weights, batch: int) -> None:
        config = weights.config
        self.T, self.random = config.T, np.random.default_rng(0)
        graph = step_graph(fold(weights), config, batch).SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

        # ONNX Runtime uses the memory of these arrays, so they must stay alive.
        self.token = np.zeros(batch, np.int64)
        self.noise = np.zeros((batch, config.vocab_size), np.float32)
        self.next_logits = np.zeros_like(self.noise)
        rings = {
            f"{kind}.{b}": np.zeros((batch, config.n_heads, config.T, config.head_width), np.float32)
            for kind in ("keys", "values")
            for b in range(config.n_blocks)
        }
        kept = {name: OrtValue.ortvalue_from_numpy(array) for name, array in {"token": self.token, **rings}.items()}
        noise, logits = (OrtValue.ortvalue_from_numpy(array) for array in (self.noise, self.next_logits))

        self.bindings = []
        self.stay: list[object] = [rings, kept, noise, logits]
        ring = make_ring(config.T)
        for slot, columns, mask in zip(ring.slot, ring.columns, ring.mask, strict=True):
            binding = self.session.io_binding()
            for name, value in kept.items():
                binding.bind_ortvalue_input(name, value)
                binding.bind_ortvalue_output(f"{name}.next", value)
            binding.bind_ortvalue_input("noise", noise)
            binding.bind_ortvalue_output("logits", logits)
            place = {"slot": np.full(batch, slot), "first": columns[:1], "end": columns[:1] + config.T, "mask": mask}
            values = {name: OrtValue.ortvalue_from_numpy(array) for name, array in place.items()}
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            self.bindings.append(binding)
            self.stay.append((place, values))
        self.reset()

    def reset(self) -> None:
        """Restart all sequences."""
        self.done = 0
        self.token.fill(0)

    def logits(self, tokens: Tokens) -> FloatArray:
        """Return the logits of one sequence, computed by the steps that generate: [N] -> [N, V]. Resets the peer."""
        self.reset()
        rows = []
        for token in tokens:
            self.token.fill(token)
            self._step()
            rows.append(self.next_logits[0].copy())
        self.reset()
        return np.stack(rows)

    def generate(self, length: int) -> Tokens:
        """Return the next tokens of every sequence, [B, length].

        With e from the exponential distribution, the argmax of logits - log(e) is a draw from their softmax.
        """
        noise = self.random.standard_exponential((length, *self.noise.shape), np.float32)
        noise = np.log(noise + np.finfo(np.float32).tiny)  # in float32 the noise can be exactly 0
        out = np.empty((length, len(self.token)), np.int64)
        for i in range(length):
            self.noise[:] = noise[i]
            self._step()
            out[i] = self.token
        return out.T

    def _step(self) -> None:
        """Compute `next_logits` from `token`, and the next `token` from them and `noise`."""
        self.session.run_with_iobinding(self.bindings[row(self.done, self.T)])
        self.done += 1
