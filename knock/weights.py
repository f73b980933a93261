"""Weights: the named float32 arrays of a model, with names and shapes given by its config."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from knock.config import BlockConfig, ModelConfig
from knock.errors import WeightsError
from knock.validation import shown

FloatArray = npt.NDArray[np.float32]


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every array of a model, in the order of the forward pass.

    Heads are concatenated along the last axis: columns [h*D, (h+1)*D) of `wq`, `wk` and `wv`, and [h*R, (h+1)*R) of
    `wr`, where R is the window of the block's reweight logits, belong to head h. Arrays that the head type of a block
    does not use are absent.
    """
    V, C = config.vocab_size, config.n_emb
    named: dict[str, tuple[int, ...]] = {"embed": (V, C)}
    if config.position == "absolute":
        named["pos"] = (config.longest_window, C)
    for b, block in enumerate(config.blocks):
        named |= {f"blocks.{b}.{name}": shape for name, shape in block_shapes(config, block).items()}
    return named | {"ln_f.gain": (C,), "ln_f.bias": (C,), "wout": (C, V)}


def block_shapes(config: ModelConfig, block: BlockConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every array of a block, without the prefix `blocks.N.`."""
    C, F, H = config.n_emb, config.nodes, config.n_heads
    named: dict[str, tuple[int, ...]] = {"ln1.gain": (C,), "ln1.bias": (C,)}
    if block.has_content:
        named |= {"wq": (C, C), "wk": (C, C)}
    named["wv"] = (C, C)
    if block.has_reweight:
        named["wr"] = (C, H * block.reweight_T)
    if block.has_reweight and block.has_content:
        named["gate"] = (H,)
    return named | {"ln2.gain": (C,), "ln2.bias": (C,), "w0": (C, F), "w1": (F, C)}


class Weights(Mapping[str, FloatArray]):
    """The arrays of one model: a read-only mapping from name to float32 array.

    Args:
        config: the model's shape.
        arrays: exactly the arrays of `shapes(config)`, convertible to float32. Contiguous read-only float32 arrays are
            kept, others are copied.

    Raises:
        WeightsError: if a name is missing or unknown, a shape differs, a value is not finite, or a gate is outside
            [0, 1].
    """

    def __init__(self, config: ModelConfig, arrays: Mapping[str, npt.ArrayLike]) -> None:
        expected = shapes(config)
        if set(arrays) != set(expected):
            missing, unknown = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
            raise WeightsError(
                f"the config requires {len(expected)} arrays; missing {shown(missing)}, unknown {shown(unknown)}"
            )
        self.config = config
        self._arrays: dict[str, FloatArray] = {}
        for name, shape in expected.items():
            try:
                array = _read_only(arrays[name])
            except (TypeError, ValueError) as error:
                raise WeightsError(f"array {name!r} must hold numbers: {error}") from error
            if array.shape != shape:
                raise WeightsError(
                    f"array {name!r} must have shape {list(shape)} by the config, got {list(array.shape)}"
                )
            if not np.isfinite(array).all():
                raise WeightsError(f"array {name!r} has values that are not finite; the model is broken, retrain it")
            if name.endswith(".gate") and not ((array >= 0) & (array <= 1)).all():
                raise WeightsError(f"array {name!r} must hold gates in [0, 1], got {array.tolist()}")
            self._arrays[name] = array

    @classmethod
    def random(cls, config: ModelConfig, seed: int = 42) -> Weights:
        """Return initial weights for training; they depend only on config and seed, not on the machine.

        Matrices are normal with standard deviation 1/sqrt(rows), which preserves the scale of a normalised input. The
        two that write into the residual stream are divided by sqrt(2 L), which keeps its scale over L blocks (Radford
        et al. 2019, "Language Models are Unsupervised Multitask Learners"). Reweight logits and the output start near
        zero, so patterns are flat and all characters about equally likely. Gates start at `alpha`.
        """
        rng = np.random.default_rng(seed)
        small = {"embed": 0.1, "pos": 0.1, "wr": 0.02, "wout": 0.02}
        residual = 1 / math.sqrt(2 * config.n_blocks)
        arrays: dict[str, npt.NDArray[np.floating]] = {}
        for name, shape in shapes(config).items():
            kind = name.rsplit(".", 1)[-1]
            if kind == "gain":
                arrays[name] = np.ones(shape)
            elif kind == "bias":
                arrays[name] = np.zeros(shape)
            elif kind == "gate":
                arrays[name] = np.full(shape, config.alpha)
            else:
                std = small.get(kind, 1 / math.sqrt(shape[0])) * (residual if kind in ("wv", "w1") else 1)
                arrays[name] = rng.standard_normal(shape) * std
        return cls(config, arrays)

    @property
    def n_parameters(self) -> int:
        """Number of trainable values."""
        return sum(array.size for array in self.values())

    def __getitem__(self, name: str) -> FloatArray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[type[Weights], tuple[ModelConfig, dict[str, FloatArray]]]:
        return Weights, (self.config, dict(self))  # a copy is validated and read-only too

    def __repr__(self) -> str:
        return f"Weights({self.n_parameters:,} parameters, {self.config})"


def _read_only(values: npt.ArrayLike) -> FloatArray:
    """Return a read-only float32 array in C order."""
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        flags = values.flags
        if flags.c_contiguous and flags.aligned and not flags.writeable:
            return values
    array = np.array(values, np.float32, order="C")
    array.flags.writeable = False
    return array
