"""The compiled functions reject arrays that would make them write elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from knock.engine.packed_model import PackedModel
from knock.engine.packing import control_row
from knock.sampling import Sampling
from knock_kernels.cache.store import ROWS, SPAN, EntryPoints, Lane, RowField, Shared, Stat, entry_points
from knock_kernels.lang.layout import Control
from tests.cases import SMALL, random_weights

CONFIG = SMALL["hybrid-absolute"]
V, T = CONFIG.vocab_size, CONFIG.T


@pytest.fixture(scope="module")
def model() -> PackedModel:
    return PackedModel(random_weights(CONFIG, 0), entry_points())


def shared(model: PackedModel, caches: int) -> dict[str, Any]:
    scratch = model.scratch(caches)
    return {"inputs": np.zeros(3 * SPAN, np.int64), "weights": model.weights, "scratch": scratch, "plan": model.plan}


def arguments(model: PackedModel, name: str) -> dict[str, Any]:
    """Valid arguments of a function, with no array longer than it has to be."""
    lane = np.zeros((1, len(Lane)), np.int64)
    lane[0, Lane.cache] = model.cache_offset(0)
    lane[0, [Lane.bias, Lane.automaton, Lane.context]] = -1
    if name == "decode":
        return {
            "lanes": lane, "count": 1, "length": 3, "controls": np.array([control_row(Sampling())]),
            "biases": np.zeros((1, V), np.float32), "automata": np.zeros(4, np.int32),
            "contexts": np.zeros(4, np.int32), "history": np.zeros((1, T), np.int64), **shared(model, 1),
            "tokens": np.zeros(3, np.int64), "stats": np.zeros((3, len(Stat))),
        }  # fmt: skip
    if name == "read":
        return {"tokens": np.zeros(3, np.int64), "position": 0, "length": 3, "cache": model.cache_offset(0),
                **shared(model, 1)}  # fmt: skip
    if name == "score":
        return {
            "tokens": np.zeros(3, np.int64), "targets": np.zeros(3, np.int64), "length": 3, "position": 0,
            "cache": model.cache_offset(0), **shared(model, 1), "out": np.zeros(3 * V), "every_logit": True,
        }  # fmt: skip
    if name == "tabulate":
        return {key: value for key, value in shared(model, 0).items() if key != "inputs"}
    table = np.zeros((2, len(RowField)), np.int64)
    table[:, RowField.max_new_tokens], table[:, RowField.bias], table[:, RowField.automaton] = 3, -1, -1
    table[:, RowField.context] = -1
    table[1, RowField.out] = 3
    return {
        "order": np.arange(2), "count": 2, "most": 2, "table": table, "shared": np.zeros(len(Shared), np.int64),
        "controls": np.array(control_row(Sampling())), "biases": np.zeros(4, np.float32),
        "automata": np.zeros(4, np.int32), "contexts": np.zeros(4, np.int32), "prompts": np.zeros(4, np.int64),
        "lanes": np.zeros((ROWS, len(Lane)), np.int64), "lane_controls": np.zeros((ROWS, len(Control))),
        "history": np.zeros((ROWS, T), np.int64), "caches": np.array([model.cache_offset(i) for i in range(ROWS + 1)]),
        **shared(model, ROWS + 1), "tokens": np.zeros(6, np.int32), "stats": np.zeros((6, len(Stat))),
        "stats_stride": len(Stat),
    }  # fmt: skip


NAMES = ("decode", "read", "run", "score", "tabulate")
# Arrays of any length: offsets into them are in other arrays.
OF_ANY_LENGTH = {("decode", "automata"), ("decode", "contexts")} | {
    ("run", name) for name in ("controls", "biases", "automata", "contexts", "prompts")
}


def call(model: PackedModel, name: str, given: dict[str, Any]) -> Any:
    if name != "decode":
        return getattr(EntryPoints, name)(model.kernels, **given)
    written = {key: given[key] for key in ("length", "tokens", "stats") if key in given}
    return model.kernels.decoder(**{key: value for key, value in given.items() if key not in written})(**written)


@pytest.mark.parametrize("name", NAMES)
def test_valid_arguments(model: PackedModel, name: str) -> None:
    assert call(model, name, arguments(model, name)) == {"decode": 3, "score": 3}.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_invalid_arrays(model: PackedModel, name: str) -> None:
    given = arguments(model, name)
    arrays = [key for key, value in given.items() if isinstance(value, np.ndarray)]
    assert arrays
    for key in arrays:
        other = np.int32 if given[key].dtype != np.int32 else np.int64
        with pytest.raises(TypeError, match=f"{key} must be {given[key].dtype}, got {np.dtype(other)}"):
            call(model, name, given | {key: given[key].astype(other)})
        with pytest.raises(ValueError, match=f"{key} must be contiguous"):
            call(model, name, given | {key: np.repeat(given[key], 2, axis=-1)[..., ::2]})
        if (name, key) not in OF_ANY_LENGTH:
            with pytest.raises(ValueError, match=rf"{key} needs \d+ elements, got \d+|no cache lies at"):
                call(model, name, given | {key: given[key][: len(given[key]) // 2]})


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("decode", {"count": 0}, "lanes must be 1 to 8, got 0"),
        ("decode", {"count": 9}, "lanes must be 1 to 8, got 9"),
        ("decode", {"length": 4}, "tokens needs 4 elements, got 3"),
        ("score", {"cache": 0}, "no cache lies at 0"),
        ("read", {"cache": 2**40}, "no cache lies at"),
        ("run", {"stats_stride": 3}, "stats_stride must be 0 or 5, got 3"),
        ("run", {"most": 9}, "lanes must be 1 to 8, got 9"),
    ],
)
def test_invalid_numbers(model: PackedModel, name: str, changed: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model, name, arguments(model, name) | changed)


def test_missing_argument_is_an_error(model: PackedModel) -> None:
    given = arguments(model, "decode")
    del given["stats"]
    with pytest.raises(TypeError, match="stats"):
        call(model, "decode", given)


def test_log_probs_need_less_room_than_logits(model: PackedModel) -> None:
    given = arguments(model, "score") | {"out": np.zeros(3), "every_logit": False}
    assert call(model, "score", given) == 3
    with pytest.raises(ValueError, match=f"out needs {3 * V} elements, got 3"):
        call(model, "score", given | {"every_logit": True})
