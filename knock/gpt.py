"""ReweightGPT: the model over token ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack

import numpy as np
import numpy.typing as npt

from knock.choices import DEFAULT_PRECISION, Backend, HeadType, Position, Precision
from knock.config import ModelConfig
from knock.engine.batch import Request
from knock.engine.engine import Engine
from knock.errors import SamplingError
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.hints import LENGTHS, hint_at
from knock.sampling import (
    Sampling,
    SamplingOptions,
    Stats,
    TokenStats,
    each_sampling,
    resolve_seed,
    summarize,
    summarize_rows,
)
from knock.validation import LONGEST, whole_number
from knock.vocab import TokenArray, Vocab, check_tokens
from knock.weights import Weights

_NAMES = {**dict.fromkeys(LENGTHS, "length"), "temp": "temperature"}  # what other libraries call the arguments


class ReweightGPT:
    """A model over token ids. A new one has random weights. Threads may share it, and it can be pickled.

    Args:
        vocab_size: number of tokens, V.
        T: context window of a block; one value, or a tuple with a value for each block.
        n_emb: embedding width, C.
        nodes: width of the MLP's hidden layer, F.
        n_blocks: number of blocks, L.
        n_heads: attention heads of a block, H.
        head_type: `"hybrid"`, `"reweight"` or `"content"`; one value, or a tuple with a value for each block.
        alpha: initial gate of hybrid heads, from 0 (content) to 1 (reweight).
        position: `"relative"` or `"absolute"`; None chooses by the head type.
        reweight_T: how far back the reweight logits of hybrid heads reach, as in `ModelConfig`; None for T.
        seed: seed of the random weights.
        backend: `"auto"`, `"numpy"` or `"compiled"`, as in `knock.engine.engine.Engine`.
        precision: `"int16"` multiplies integers; a seed gives the same text on every CPU and backend. `"int8"`
            multiplies smaller ones, which is faster and less accurate. `"float32"` uses fused multiply-adds; a seed
            gives the same text on every CPU that has them, on the same backend.

    Raises:
        ConfigError: if the shape is invalid.
        KnockError: if there is no such backend or precision.
    """

    def __init__(
        self,
        vocab_size: int,
        T: int | tuple[int, ...] = 32,
        n_emb: int = 64,
        nodes: int = 64,
        n_blocks: int = 3,
        n_heads: int = 4,
        head_type: HeadType | tuple[HeadType, ...] = "hybrid",
        alpha: float = 0.5,
        *,
        position: Position | None = None,
        reweight_T: int | tuple[int, ...] | None = None,
        seed: int = 42,
        backend: Backend = "auto",
        precision: Precision = DEFAULT_PRECISION,
    ) -> None:
        config = ModelConfig(
            vocab_size=vocab_size,
            T=T,
            n_emb=n_emb,
            nodes=nodes,
            n_blocks=n_blocks,
            n_heads=n_heads,
            head_type=head_type,
            alpha=alpha,
            reweight_T=reweight_T,
            **({} if position is None else {"position": position}),
        )
        self.engine = Engine(Weights.random(config, resolve_seed(seed)), backend, precision)

    @classmethod
    def from_weights(
        cls, weights: Weights, *, backend: Backend = "auto", precision: Precision = DEFAULT_PRECISION
    ) -> ReweightGPT:
        """Return the model with these weights."""
        model = cls.__new__(cls)
        model.engine = Engine(weights, backend, precision)
        return model

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, backend: Backend = "auto", precision: Precision = DEFAULT_PRECISION
    ) -> ReweightGPT:
        """Return the model in a file.

        Raises:
            CheckpointError: if the file is missing or not a valid model file.
        """
        return cls.from_weights(read_checkpoint(path).weights, backend=backend, precision=precision)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.engine.config

    @property
    def weights(self) -> Weights:
        """The model's arrays."""
        return self.engine.weights

    def logits(self, tokens: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the logits at every position of one uninterrupted sequence of any length: [N] -> [N, V].

        Raises:
            VocabError: if a token is not in [0, V).
        """
        return self.engine.logits(tokens)

    @hint_at(_NAMES)
    def generate(
        self,
        seed_seq: npt.ArrayLike,
        length: int,
        sampling: str | Sampling = "basic",
        *,
        seed: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> tuple[TokenArray, Stats]:
        """Generate tokens.

        Args:
            seed_seq: token ids to continue; an empty sequence stands for token 0.
            length: number of tokens to generate.
            sampling: a `Sampling`, or a preset: `"basic"`, `"top_k"`, `"top_p"` or `"entropy"`.
            seed: decides every draw. If None, a seed is drawn and reported in the statistics.
            options: controls that override those of the preset, such as `temperature=0.8`.

        Returns:
            The new tokens, int32 [length], and their statistics with the seed that was used.

        Raises:
            VocabError: if a token is not in [0, V).
            SamplingError: if a control or the length is out of range.
        """
        resolved = resolve_seed(seed)
        prompt = check_tokens(seed_seq, self.config.vocab_size)
        length = whole_number("length", length, 0, LONGEST, error=SamplingError)
        controls = Sampling.resolve(sampling, options)
        stream = self.engine.start(prompt if prompt.size else [0], controls, resolved, length=length)
        tokens, per_token = stream.advance(length)
        return tokens, summarize(per_token, resolved)

    @hint_at(_NAMES)
    def generate_batch(
        self,
        prompts: Sequence[npt.ArrayLike],
        length: int,
        sampling: str | Sampling | Sequence[str | Sampling] = "basic",
        *,
        seed: int | None = None,
        threads: int | None = None,
    ) -> tuple[TokenArray, list[Stats]]:
        """Generate tokens for each prompt. Row i depends on its prompt, its controls, the seed and i alone.

        Args:
            prompts: token ids to continue; an empty sequence stands for token 0.
            length: number of tokens to generate for each prompt.
            sampling: the controls of all prompts, or a list with those of each.
            seed: seed of the batch. If None, a seed is drawn and reported in the statistics.
            threads: number of threads; None for one for each CPU.

        Returns:
            The new tokens, int32 [rows, length], and the statistics of each row.

        Raises:
            VocabError: if a token is not in [0, V).
            SamplingError: if a control is out of range, or the lists differ in length.
        """
        length, resolved = whole_number("length", length, 0, LONGEST, error=SamplingError), resolve_seed(seed)
        checked = [check_tokens(prompt, self.config.vocab_size) for prompt in prompts]
        start = np.zeros(1, np.int32)
        requests = [
            Request(tokens if tokens.size else start, controls, None, length, i)
            for i, (tokens, controls) in enumerate(zip(checked, each_sampling(sampling, len(checked)), strict=True))
        ]
        rows = self.engine.run(requests, resolved, threads=threads, keep_stats=True)
        if rows.is_interrupted:
            raise KeyboardInterrupt
        assert rows.stats is not None
        stats = summarize_rows(TokenStats.from_array(rows.stats), rows.lengths, resolved)
        return rows.tokens.reshape(len(requests), length), stats

    def save(self, path: str | os.PathLike[str], vocab: Vocab | None = None) -> str:
        """Write the model to a `.safetensors` or `.npz` file and return its digest.

        Args:
            path: the file; an existing one is replaced atomically.
            vocab: the characters of the tokens; without them the file cannot be used for text.

        Raises:
            CheckpointError: if the file cannot be written, or the vocabulary has another size than the model.
        """
        return write_checkpoint(path, self.weights, vocab)

    def __repr__(self) -> str:
        return f"ReweightGPT({self.weights.n_parameters:,} parameters, {self.config})"
