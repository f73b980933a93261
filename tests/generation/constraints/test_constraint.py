"""Constraints compiled for a vocabulary."""

from __future__ import annotations

from knock.generation.constraints.constraint import Constraint, compile_constraint
from knock.vocab import Vocab


def test_what_was_compiled_last_is_kept() -> None:
    first = compile_constraint(Constraint(pattern="[ab]+", ban="bb"), ("c",), Vocab("abc"))
    assert compile_constraint(Constraint(pattern="[ab]+", ban=["bb"]), ("c",), Vocab("abc")) is first
    others = [
        compile_constraint(Constraint(pattern="[ab]+"), ("c",), Vocab("abc")),
        compile_constraint(Constraint(pattern="[ab]+", ban="bb"), ("b",), Vocab("abc")),
        compile_constraint(Constraint(pattern="[ab]+", ban="bb"), ("c",), Vocab("abcd")),
        compile_constraint(Constraint(pattern="[ab]+", ban="bb"), ("c",), Vocab("abc", boundary=True)),
        compile_constraint(Constraint(pattern="[ab]+", ban="bb"), ("c",), Vocab("abc"), (0,)),
    ]
    assert all(other is not first for other in others)


def test_none_is_no_constraint() -> None:
    assert compile_constraint(None, (), Vocab("abc")).automaton is None
    assert compile_constraint(None, ("b",), Vocab("abc")) is compile_constraint(None, ("b",), Vocab("abc"))
