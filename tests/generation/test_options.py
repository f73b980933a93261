"""The keyword arguments of a text are split by name into those of `Sampling` and those of `Constraint`."""

from __future__ import annotations

import dataclasses

import pytest

from knock.errors import SamplingError
from knock.generation.constraints.constraint import NO_CONSTRAINT, Constraint
from knock.generation.options import ConstraintOptions, TextOptions, split
from knock.sampling import Sampling


def test_names_are_those_of_the_fields() -> None:
    constraints, controls = ({field.name for field in dataclasses.fields(each)} for each in (Constraint, Sampling))
    assert set(ConstraintOptions.__annotations__) == constraints
    assert set(TextOptions.__annotations__) == constraints | controls


def test_options_are_told_apart() -> None:
    controls, constraint = split({"temperature": 0.5, "pattern": "a", "ban": "b", "nonsense": 1})
    assert controls == {"temperature": 0.5, "nonsense": 1}
    assert constraint == Constraint(pattern="a", ban="b")


def test_none_stands_for_no_constraint() -> None:
    assert split({"top_k": 3}) == ({"top_k": 3}, None)
    assert split(dataclasses.asdict(NO_CONSTRAINT)) == ({}, None)
    with pytest.raises(SamplingError, match="min_length=3 is above max_length=1"):
        split({"min_length": 3, "max_length": 1})
