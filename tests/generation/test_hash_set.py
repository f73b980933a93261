"""A HashSet holds the hashes that it was made of, whatever they are and however often they occur."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.generation import hash_set
from knock.generation.hash_set import HashSet

EDGES = [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
HASHES = st.lists(st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1)), max_size=40)


@given(st.lists(HASHES, max_size=8), HASHES, st.sampled_from([1, 2, 5, 2**16]))
def test_has_the_hashes_of_all_parts(parts: list[list[int]], others: list[int], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_set, "_LEAST", room)
        patch.setattr(hash_set, "_AT_ONCE", room)
        result = HashSet(np.array(part, np.uint64) for part in parts)
    expected = {each for part in parts for each in part}
    assert len(result) == len(expected)
    for each in {*expected, *others, *EDGES}:
        assert (each in result) == (each in expected)
        assert result.has_any_of(np.array([each], np.uint64)) == (each in expected)
    assert result.has_any_of(np.array(others, np.uint64)) == (not expected.isdisjoint(others))
    assert result.has_any(others) == (not expected.isdisjoint(others))


def test_digest_depends_on_nothing_but_the_hashes() -> None:
    one = HashSet([np.array([3, 2, 2], np.uint64), np.array([1], np.uint64)])
    assert one.digest == HashSet([np.array([1, 2, 3, 3], np.uint64)]).digest
    assert one.digest != HashSet([np.array([1, 2, 4], np.uint64)]).digest


@pytest.mark.parametrize("is_distinct", [True, False])
def test_memory(is_distinct: bool) -> None:
    """At most 12 bytes per distinct hash, and 20 while the set is built: repeated hashes take none."""
    count, parts = 2**17, 16
    distinct = count * parts if is_distinct else count
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, distinct, np.uint64)
    tracemalloc.start()
    try:
        result = HashSet(hashes[i * count % distinct :][:count] for i in range(parts))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result) == distinct
    some = 2**22  # bytes for what is handled at once
    assert 8 * distinct <= kept <= 12 * distinct + some // 8
    assert peak <= 20 * distinct + some
