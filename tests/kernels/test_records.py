"""Records have the same fields in Python and in kernels, and the memory that they point to is where they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from knock_kernels.lang.layout import Controls, Lane, Linear, Model, Record, Row, State
from knock_kernels.lang.memory import ALIGNMENT, address, aligned, allocate, point
from knock_kernels.lang.records import address_of, copy_record, exists, swap_records
from tests.kernels.pointers import record_at

lanes_at, models_at = record_at(Lane), record_at(Model)

RECORDS = Record.__subclasses__()


@pytest.mark.parametrize("kind", RECORDS)
def test_fields_take_eight_bytes_each(kind: type[Record]) -> None:
    """Kernels copy records word by word, and entry points take them for contiguous."""
    assert kind.dtype.itemsize == 8 * len(kind.fields)
    assert list(kind.dtype.names or ()) == list(kind.fields)


def test_fields_are_read_and_written_by_name() -> None:
    @njit
    def run(lanes: int, i: int) -> Any:
        lane = lanes_at(lanes)[i]
        lane.token += 2
        lane.controls.temperature = lane.controls.temperature / 2
        lane.context[1] = 7
        return lane.token, exists(lane.bias), exists(lane.context), address_of(lane.context)

    lanes, controls, context = Lane.array(3), Controls.array(), np.zeros(2, np.int32)
    lanes["token"] = 10, 20, 30
    controls["temperature"] = 3
    point(Lane, lanes[1:2], controls=controls, context=context)
    assert run(address(lanes), 1) == (22, False, True, address(context))
    assert lanes["token"].tolist() == [10, 22, 30]
    assert controls["temperature"][0] == 1.5
    assert context.tolist() == [0, 7]


def test_records_are_copied_and_swapped() -> None:
    @njit
    def run(lanes: int) -> None:
        swap_records(lanes_at(lanes)[0], lanes_at(lanes)[1])
        copy_record(lanes_at(lanes)[1], lanes_at(lanes)[2])

    lanes = Lane.array(3)
    for i, name in enumerate(Lane.fields):
        lanes[name] = 100 * np.arange(3) + i
    before = lanes.copy()
    run(address(lanes))
    assert np.array_equal(lanes, before[[1, 0, 0]])


def test_unknown_fields_do_not_compile() -> None:
    @njit
    def run(lanes: int) -> Any:
        return lanes_at(lanes).no_such_field

    with pytest.raises(Exception, match="no_such_field"):
        run(0)


def test_allocated_arrays_are_aligned_and_apart() -> None:
    state = State.array()
    arrays = allocate(State, state, {"x": (3, 5), "tokens": (1,), "logits": (7,)})
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "x": ("float32", (3, 5)), "tokens": ("int64", (1,)), "logits": ("float32", (7,)),
    }  # fmt: skip
    for name, array in arrays.items():
        assert state[name][0] == address(array)
        assert address(array) % ALIGNMENT == 0
    for i, array in enumerate(arrays.values()):
        array[:] = i + 1
    assert [set(array.ravel().tolist()) for array in arrays.values()] == [{1}, {2}, {3}]


def test_allocated_records() -> None:
    model = Model.array()
    arrays = allocate(Model, model, {"output": (1,)})
    assert arrays["output"].dtype == Linear.dtype
    arrays["output"]["K"] = 12

    @njit
    def run(model: int) -> int:
        return models_at(model).output.K

    assert run(address(model)) == 12


@pytest.mark.parametrize("size", [1, 17, 64])
def test_aligned(size: int) -> None:
    array = aligned(size)
    assert array.shape == (size,)
    assert address(array) % ALIGNMENT == 0
    assert not array.any()


def test_arrays_of_the_wrong_kind_are_not_pointed_to() -> None:
    row = Row.array()
    with pytest.raises(TypeError, match="bias must be float32, got float64"):
        point(Row, row, bias=np.zeros(3))
    with pytest.raises(ValueError, match="bias must be contiguous"):
        point(Row, row, bias=np.zeros(6, np.float32)[::2])
    point(Row, row, bias=np.zeros(3, np.float32))
    assert row["bias"][0]
    point(Row, row, bias=None)
    assert not row["bias"][0]
