"""Pack a model's weights and a request's controls for the kernels: aligned, padded to whole vectors, in panels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from knock.choices import Precision
from knock.config import ModelConfig
from knock.engine.folding import Folded, fold_block, fold_output
from knock.sampling import Sampling
from knock.vocab import TokenArray
from knock.weights import Weights
from knock_kernels.cache.store import (
    CHAINS,
    PANEL,
    ROWS,
    ZERO_BYTE,
    Block,
    Controls,
    Linear,
    Model,
    RecordArray,
    allocate,
    padded,
)

# The most numbers in the table of what the first blocks compute, 16 MB. A core's caches hold less, but only the rows
# that a text needs are ever touched: Tiny Shakespeare has 1,403 pairs of characters, and 256 of them cover 85%.
_TABLE_FLOATS = 2**22
Table = Literal["none", "tokens", "pairs"]

if TYPE_CHECKING:
    from knock.engine.quantizing import Codes, QuantizedLayer, QuantizedModel

    Layer = Folded | QuantizedLayer


@dataclass(frozen=True, eq=False)
class Packed:
    """A packed model.

    Attributes:
        model: the `Model` record, [1].
        blocks: the `Block` records, [L].
        turned_size: size of `State.turned`.
        first_cache_size: size of `State.first_cache`.
        memory: the arrays behind the records.
    """

    model: RecordArray
    blocks: RecordArray
    turned_size: int
    first_cache_size: int
    memory: list[Any]


@np.errstate(over="ignore")  # what is too large for float32 is found out when it is run
def pack(weights: Weights, precision: Precision, *, table: Table = "pairs") -> Packed:
    """Pack a model.

    Args:
        weights: the model.
        precision: of its products.
        table: `"pairs"` keeps what the first blocks compute for each pair of tokens if that depends on nothing else,
            and `"tokens"` what is computed for each token before the first attention, as `"pairs"` does otherwise;
            neither if the table would be too large. It changes the speed and nothing else.
    """
    c = weights.config
    V, T, C, H, D = c.vocab_size, c.longest_window, c.n_emb, c.n_heads, c.head_width
    quantized = None
    if precision != "float32":
        from knock.engine.quantizing import quantize  # float32 does not need it

        quantized = quantize(weights, precision)
    model = Model.array()
    model["is_relative"] = c.position == "relative"
    for name, size in {"T": T, "H": H, "L": c.n_blocks}.items():
        model[name] = size
    for name, size in {"V": V, "C": C, "D": D, "F": c.nodes}.items():
        model[name], model[f"{name}_padded"] = size, padded(size)
    shapes = {
        "embed": (V, padded(C)),
        "pos": (0 if c.position == "relative" else T, padded(C)),
        "blocks": (c.n_blocks,),
        "output": (1,),
        "zeros": (max(padded(T), padded(D)),),
    }
    arrays = allocate(Model, model, shapes)
    arrays["embed"][:, :C] = weights["embed"]
    if c.position == "absolute":
        arrays["pos"][:, :C] = weights["pos"]
    if quantized is not None:
        scheme = quantized.scheme
        model["has_codes"], model["head_codes"] = 1, padded(H * _even(D))
        model["code_bytes"], model["hidden_codes"] = np.dtype(scheme.dtype).itemsize, scheme.hidden_codes
        model["norm_scale"], model["norm_codes"] = scheme.norm_scale or 0, scheme.norm_codes or 0
    output = fold_output(weights) if quantized is None else quantized.output
    memory: list[Any] = [arrays, _pack_linear(arrays["output"], output)]
    blocks = arrays["blocks"]
    memory += [_pack_block(weights, quantized, b, blocks[b : b + 1]) for b in range(c.n_blocks)]
    memory.append(_table(c, table, model, blocks))
    slots = -(-blocks["T"] // CHAINS) * CHAINS if quantized is None else _even(blocks["T"]) // 2
    sizes = blocks["values"] + H * slots * padded(D)
    first = int(model["first"][0])
    first_cache_size, sizes[:first] = int(sizes[:first].sum()), 0  # a lane has no cache for what the table replaces
    blocks["cache"], model["cache_size"] = np.cumsum(sizes) - sizes, sizes.sum()
    return Packed(model, blocks, _lay_out_turned(blocks, max(ROWS, H)), first_cache_size, memory)


def _table(c: ModelConfig, table: Table, model: RecordArray, blocks: RecordArray) -> dict[str, Any]:
    """Allocate the table, empty, if it is not too large; return the arrays behind it."""
    V, relative = c.vocab_size, c.position == "relative"
    kinds = []  # rows, and the blocks that they replace
    if table == "pairs" and relative and c.windows[0] <= 2:
        kinds.append((V * (V + 1), 1))
    if table != "none":
        kinds.append((V if relative else V * c.longest_window, 0))
    for rows, first in kinds:
        stride = padded(c.n_emb) + int(blocks["N"][first : first + 1].sum())
        if rows * stride <= _TABLE_FLOATS:
            model["first"], model["table_stride"] = first, stride
            return allocate(Model, model, {"table": (rows, stride), "filled": (rows,)})
    return {}


def _even(n: Any) -> Any:
    """Return the least even number that is at least n."""
    return n + n % 2


def _lay_out_turned(blocks: RecordArray, places: int) -> int:
    """Set the offsets in `State.turned`, and return its size.

    Blocks whose reweight logits reach over the whole window share one place. In the others, columns beyond the reach
    are 0 from the start and must stay so.
    """
    sizes = places * blocks["turned_stride"]
    shared = blocks["R"] == blocks["T"]
    start = int(sizes[shared].max(initial=0))
    own = np.where(shared, 0, sizes)
    blocks["turned"] = np.where(shared, 0, start + np.cumsum(own) - own)
    return start + int(own.sum())


def _pack_block(weights: Weights, quantized: QuantizedModel | None, b: int, block: RecordArray) -> list[Any]:
    """Fill in the record of a block; return the arrays behind it.

    Args:
        weights: the model.
        quantized: its codes, or None for float32.
        b: number of the block.
        block: its record, [1].
    """
    c = weights.config
    H, D, T, R = c.n_heads, c.head_width, c.windows[b], c.reweight_windows[b]
    source = fold_block(weights, b) if quantized is None else quantized.blocks[b]
    width = D if quantized is None else _even(D)  # of a head's queries and keys
    content = "q" in source.inputs
    strides = {"q": width, "k": width, "v": padded(D), "r": padded(R)}
    N = 0
    for name, stride in strides.items():
        block[name] = N if name in source.inputs else -1
        N += padded(H * stride) if name in source.inputs else 0
    for name, size in {"N": N, "T": T, "R": R, "T_padded": padded(T), "R_padded": padded(R)}.items():
        block[name] = size
    block["values"] = H * (width if quantized is None else width // 2) * padded(T) if content else 0
    block["turned_stride"] = padded(T + 2 * padded(T)) if R and c.position == "relative" else 0
    layers = allocate(Block, block, {"inputs": (1,), "w0": (1,), "w1": (1,)})
    memory = [layers]
    if quantized is not None:
        factors = quantized.blocks[b]
        arrays = allocate(Block, block, {"logit_factor": (H,), "value_factor": (H,)})
        arrays["value_factor"][:] = factors.value_factor
        if factors.logit_factor is not None:
            arrays["logit_factor"][:] = factors.logit_factor
        memory.append(arrays)
    places = {name: (int(block[name][0]), strides[name]) for name in source.inputs}
    inputs = _side_by_side(source.inputs, places, N)
    return [
        *memory,
        *(
            _pack_linear(layers[name], layer)
            for name, layer in (("inputs", inputs), ("w0", source.w0), ("w1", source.w1))
        ),
    ]


def _side_by_side(parts: Mapping[str, Layer], places: Mapping[str, tuple[int, int]], N: int) -> Layer:
    """Return the product with all columns of its parts.

    Args:
        parts: products [K, H, width].
        places: the first column of each part, and the columns from a head to the next.
        N: number of columns.
    """

    def joined(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        first = next(iter(arrays.values()))
        out = np.zeros((*first.shape[:-2], N), first.dtype)
        for name, array in arrays.items():
            (start, stride), (H, width) = places[name], array.shape[-2:]
            heads = out[..., start : start + H * stride].reshape(*array.shape[:-2], H, stride)
            heads[..., :width] = array
            out[..., start : start + H * stride] = heads.reshape(*array.shape[:-2], H * stride)
        return out

    def each(name: str) -> npt.NDArray[Any]:
        return joined({part: getattr(layer, name) for part, layer in parts.items()})

    if isinstance(next(iter(parts.values())), Folded):
        return Folded(each("w"), each("bias"))
    from knock.engine.quantizing import QuantizedLayer

    return QuantizedLayer(each("codes"), each("factor"), each("bias"))


def _pack_linear(record: RecordArray, layer: Layer) -> Any:
    """Fill in the record of a matrix product; return the arrays behind it."""
    matrix = layer.w if isinstance(layer, Folded) else _words(layer.codes)
    K, N = matrix.shape
    record["K"], record["N"], record["is_added"] = K, padded(N), layer.bias is None
    name = "weights" if isinstance(layer, Folded) else "codes"
    by_column: dict[str, npt.NDArray[Any] | None] = {"bias": layer.bias}
    if not isinstance(layer, Folded):
        by_column["factor"] = layer.factor
        if layer.codes.itemsize == 1:  # of wide layers modulo 2**32, as are the sums; their difference fits
            by_column["corrections"] = -ZERO_BYTE * layer.codes.sum(axis=0, dtype=np.int64)
    by_column = {each: values for each, values in by_column.items() if values is not None}
    arrays = allocate(Linear, record, {name: (K * padded(N),), **dict.fromkeys(by_column, (padded(N),))})
    panels(matrix, arrays[name])
    for each, values in by_column.items():
        arrays[each][:N] = values
    return arrays


def _words(codes: Codes) -> npt.NDArray[np.int32]:
    """Return the codes of adjacent rows in int32 words: of two rows [K, N] -> [ceil(K / 2), N], or of four."""
    (K, N), count = codes.shape, 4 // codes.itemsize
    words = np.zeros((-(-K // count), N, count), codes.dtype)
    for i in range(count):
        words[: len(codes[i::count]), :, i] = codes[i::count]
    return words.view(np.int32)[:, :, 0]


def panels(matrix: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write a matrix of weights in the panels that the kernel `linear` reads, padded to whole vectors.

    Args:
        matrix: [K, N].
        out: zeros, [K * width] with a width of at least N.
    """
    K, N = matrix.shape
    width = out.size // max(1, K)
    for start in range(0, width, PANEL):
        across = min(PANEL, width - start)
        part = matrix[:, start : min(N, start + across)]
        out[K * start :][: K * across].reshape(K, across)[:, : part.shape[1]] = part


def reachable(prompt: TokenArray, config: ModelConfig) -> TokenArray:
    """Return the end of a prompt that the next token can depend on.

    A relative model drops whole windows, so that each token keeps its slot in every ring, and sums over the ring keep
    their order and therefore their bits.
    """
    extra = max(0, len(prompt) - config.receptive_field)
    if config.position == "relative":
        step = math.lcm(*config.windows)
        extra = extra // step * step
    return prompt[extra:]


def controls_of(sampling: Sampling) -> RecordArray:
    """Return the controls as the sampler reads them, a `Controls` record, [1]."""
    values = {
        "temperature": sampling.temperature,
        "top_n_sigma": sampling.top_n_sigma,
        "top_k": sampling.top_k,
        "typical_p": sampling.typical_p,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "target_entropy": -1.0 if sampling.target_entropy is None else sampling.target_entropy,
        # For a target of 0, both rules give min_temp. The kernel's ratio would be 0 / 0 where the entropy is 0, too.
        "ratio_rule": sampling.entropy_rule == "ratio" and sampling.target_entropy != 0,
        "min_temp": sampling.min_temp,
        "max_temp": sampling.max_temp,
        "mirostat": -1.0 if sampling.mirostat is None else sampling.mirostat,
        "mirostat_eta": sampling.mirostat_eta,
        "mu": 2 * (sampling.mirostat or 0.0),
        "no_repeat_ngram": sampling.no_repeat_ngram,
        "dry_multiplier": sampling.dry_multiplier,
        "dry_base": sampling.dry_base,
        "dry_allowed_length": sampling.dry_allowed_length,
        "repetition_range": sampling.repetition_range,
    }
    return np.array([tuple(float(values[name]) for name in Controls.fields)], Controls.dtype)
