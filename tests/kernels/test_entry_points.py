"""The compiled functions reject arrays that would make them write elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from knock.choices import PRECISIONS
from knock.engine.packed_model import PackedModel, Scratch
from knock.engine.packing import controls_of
from knock.sampling import Sampling
from knock_kernels.cache.store import WIDTH, Controls, EntryPoints, Job, Lane, Row, Stats, address, entry_points, point
from tests.cases import SMALL, random_weights

CONFIG = SMALL["hybrid-absolute"]
V, T = CONFIG.vocab_size, CONFIG.T


class Arguments(dict[str, Any]):
    """Valid arguments of a function, with no array longer than it has to be."""

    def __init__(self, model: PackedModel, name: str) -> None:
        scratch = model.scratch()
        self.kept: list[Any] = [scratch]  # the memory that records point to
        own = getattr(self, name)(model, scratch)
        super().__init__({**own, "model": model.record, "state": scratch.state})

    def decode(self, model: PackedModel, _: Scratch) -> dict[str, Any]:
        return {"lanes": self._lanes(model, 1), "count": 1, "length": 3, "tokens": np.zeros(3, np.int64),
                "stats": np.zeros((3, len(Stats.fields)))}  # fmt: skip

    def read(self, model: PackedModel, _: Scratch) -> dict[str, Any]:
        return {"tokens": np.zeros(3, np.int64), "position": 0, "length": 3, "cache": model.caches(1)[0]}

    def score(self, model: PackedModel, _: Scratch) -> dict[str, Any]:
        return {"tokens": np.zeros(3, np.int64), "targets": np.zeros(3, np.int64), "length": 3, "position": 0,
                "cache": model.caches(1)[0], "out": np.zeros(3 * V), "every_logit": True}  # fmt: skip

    def tabulate(self, _model: PackedModel, _: Scratch) -> dict[str, Any]:
        return {}

    def run(self, model: PackedModel, _: Scratch) -> dict[str, Any]:
        rows, job, prompt, controls = Row.array(2), Job.array(), np.zeros(1, np.int64), controls_of(Sampling())
        rows["max_new_tokens"], rows["out"] = 3, (0, 3)
        rows["prompt"], rows["controls"] = address(prompt), address(controls)
        order, counters, tokens = np.arange(2), np.zeros((2, 1), np.int64), np.zeros(6, np.int32)
        job["count"] = 2
        point(Job, job, order=order, rows=rows, next=counters[0], stop=counters[1], tokens=tokens)
        self.kept += [rows, prompt, controls, order, counters, tokens]
        lanes = self._lanes(model, WIDTH)
        return {"job": job, "most": 2, "lanes": lanes, "shared_prompt": model.caches(1)[0]}

    def _lanes(self, model: PackedModel, count: int) -> Any:
        lanes, caches, controls = Lane.array(count), model.caches(count), np.repeat(controls_of(Sampling()), count)
        history = np.zeros((count, T), np.int64)
        assert controls.dtype == Controls.dtype
        for i in range(count):
            point(Lane, lanes[i : i + 1], cache=caches[i], controls=controls[i : i + 1], history=history[i])
        self.kept += [caches, controls, history]
        return lanes


@pytest.fixture(scope="module", params=PRECISIONS)
def model(request: pytest.FixtureRequest) -> PackedModel:
    return PackedModel(random_weights(CONFIG, 0), entry_points(), request.param)


NAMES = ("decode", "read", "run", "score", "tabulate")


def call(model: PackedModel, name: str, given: dict[str, Any]) -> Any:
    if name != "decode":
        return getattr(EntryPoints, name)(model.kernels, **given)
    written = {key: given[key] for key in ("length", "tokens", "stats") if key in given}
    return model.kernels.decoder(**{key: value for key, value in given.items() if key not in written})(**written)


@pytest.mark.parametrize("name", NAMES)
def test_valid_arguments(model: PackedModel, name: str) -> None:
    assert call(model, name, Arguments(model, name)) == {"decode": 3, "score": 3}.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_invalid_arrays(model: PackedModel, name: str) -> None:
    given = Arguments(model, name)
    arrays = [key for key, value in given.items() if isinstance(value, np.ndarray)]
    assert arrays
    for key in arrays:
        shown = {"shared_prompt": "cache"}.get(key, key)
        array = given[key]
        with pytest.raises(TypeError, match=f"{shown} must be "):
            call(model, name, given | {key: np.zeros(array.shape, np.int16)})
        with pytest.raises(ValueError, match=f"{shown} must be contiguous"):
            call(model, name, given | {key: np.concatenate([array] * 4)[::2]})
        with pytest.raises(ValueError, match=rf"{shown} needs \d+ elements, got \d+"):
            call(model, name, given | {key: array[: len(array) // 2]})


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("decode", {"count": 0}, "lanes must be 1 to 8, got 0"),
        ("decode", {"count": 9}, "lanes must be 1 to 8, got 9"),
        ("decode", {"length": 4}, "tokens needs 4 elements, got 3"),
        ("run", {"most": 9}, "lanes must be 1 to 8, got 9"),
    ],
)
def test_invalid_numbers(model: PackedModel, name: str, changed: dict[str, int], message: str) -> None:
    given = Arguments(model, name)
    with pytest.raises(ValueError, match=message):
        call(model, name, given | changed)


def test_missing_argument_is_an_error(model: PackedModel) -> None:
    given = Arguments(model, "decode")
    del given["stats"]
    with pytest.raises(TypeError, match="stats"):
        call(model, "decode", given)


def test_log_probs_need_less_room_than_logits(model: PackedModel) -> None:
    given = Arguments(model, "score")
    given |= {"out": np.zeros(3), "every_logit": False}
    assert call(model, "score", given) == 3
    with pytest.raises(ValueError, match=f"out needs {3 * V} elements, got 3"):
        call(model, "score", given | {"every_logit": True})
