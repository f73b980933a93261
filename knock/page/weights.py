"""A model for the page: its config, vocabulary and quantised weights as a JSON object.

The weights are the codes and factors of precision int16 (`knock.engine.quantizing`), so the page computes the same bits
as the engine. Codes have 12 bits and lie between -2047 and 2047. Two of them, plus 2048, fill three bytes; bytes are
written in base64. Numbers are float32, little-endian, in base64.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.engine.quantizing import QuantizedBlock, QuantizedLayer, quantize
from knock.language_model import LanguageModel
from knock.vocab import Vocab, fold

FORMAT = 1
_OFFSET = 2048  # added to a code, which makes it a whole number of 12 bits


def page_model(lm: LanguageModel, name: str = "") -> dict[str, Any]:
    """Return a model as a JSON-serialisable object, which `decodeModel` of the page's engine reads.

    Args:
        lm: the model.
        name: what the page calls it.
    """
    weights = lm.model.weights
    config, model = weights.config, quantize(weights, "int16")
    assert model.scheme.norm_scale is not None  # it is int16
    shape = config.to_dict() | {
        "head_width": config.head_width,
        "receptive_field": config.receptive_field,
        "blocks": [block._asdict() for block in config.blocks],
    }
    return {
        "format": FORMAT,
        "name": name,
        "digest": lm.digest,
        "parameters": weights.n_parameters,
        "default_length": lm.default_length,
        "config": shape,
        "vocab": _vocabulary(lm.vocab),
        "norm_scale": float(model.scheme.norm_scale),
        "hidden_codes": model.scheme.hidden_codes,
        "embed": _numbers(model.embed),
        "pos": None if model.pos is None else _numbers(model.pos),
        "blocks": [
            _block(block, config.position == "relative") | {"gates": _gates(weights.get(f"blocks.{b}.gate"))}
            for b, block in enumerate(model.blocks)
        ],
        "output": _layer(model.output),
    }


def pack_codes(codes: npt.NDArray[np.signedinteger[Any]]) -> str:
    """Return codes of 12 bits in base64; of two codes, the first has the low bits of three bytes."""
    flat = codes.ravel().astype(np.uint32) + np.uint32(_OFFSET)  # negative codes wrap around, and back
    pairs = np.append(flat, np.zeros(flat.size % 2, np.uint32)).reshape(-1, 2)
    words = (pairs[:, 0] | pairs[:, 1] << np.uint32(12)).astype("<u4")
    return base64.b64encode(words.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()).decode()


def _numbers(values: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _gates(gates: npt.NDArray[np.float32] | None) -> list[float] | None:
    return None if gates is None else gates.tolist()


def _vocabulary(vocab: Vocab) -> dict[str, Any]:
    """Return the characters, whether there is a boundary, and what is read as a character in lower case.

    The table of lower case is Python's. A browser's may be that of another version of Unicode.
    """
    folds = {}
    if vocab.lowercase:
        everything = (char for char in map(chr, range(sys.maxunicode + 1)) if not "\ud800" <= char <= "\udfff")
        folds = {char: lower for char in everything if (lower := fold(char)) != char and lower in vocab}
    return {"characters": list(vocab.characters), "boundary": vocab.has_boundary, "folds": folds}


def _layer(layer: QuantizedLayer) -> dict[str, Any]:
    codes = layer.codes.reshape(len(layer.codes), -1)
    return {
        "shape": list(codes.shape),
        "codes": pack_codes(codes),
        "factor": _numbers(layer.factor),
        "bias": None if layer.bias is None else _numbers(layer.bias),
    }


def _block(block: QuantizedBlock, is_relative: bool) -> dict[str, Any]:
    """Return a block; the columns of its fused projection are queries, keys, values and reweight logits.

    In a relative model, the reweight logits of a head run from the nearest distance to the farthest.
    """
    parts = []
    for part in ("q", "k", "v", "r"):
        if part in block.inputs:
            layer = block.inputs[part]
            arrays = [layer.codes, layer.factor, layer.bias]
            parts.append([a if not (part == "r" and is_relative) else a[..., ::-1] for a in arrays if a is not None])
    codes, factor, bias = (
        np.concatenate([each.reshape(*each.shape[: each.ndim - 2], -1) for each in arrays], axis=-1)
        for arrays in zip(*parts, strict=True)
    )
    return {
        "inputs": _layer(QuantizedLayer(codes, factor, bias)),
        "logit_factor": None if block.logit_factor is None else _numbers(block.logit_factor),
        "value_factor": _numbers(block.value_factor),
        "w0": _layer(block.w0),
        "w1": _layer(block.w1),
    }
