"""Sets of tokens as whole numbers have the elements that they were made of."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from knock.generation.constraints.token_sets import token_set, token_set_of_mask, tokens_of


@given(st.sets(st.integers(0, 200)))
def test_sets_have_their_tokens(tokens: set[int]) -> None:
    mask = np.zeros(201, bool)
    mask[sorted(tokens)] = True
    whole = token_set(tokens)
    assert tokens_of(whole).tolist() == sorted(tokens)
    assert token_set_of_mask(mask) == whole
    assert whole.bit_count() == len(tokens)


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)))
def test_operations_on_bits_are_those_on_sets(one: set[int], other: set[int]) -> None:
    a, b = token_set(one), token_set(other)
    assert (a & b, a | b, a & ~b) == (token_set(one & other), token_set(one | other), token_set(one - other))
