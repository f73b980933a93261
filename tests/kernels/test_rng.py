import numpy as np
import pytest

from knock import reference

# Known answers published with Random123 (Salmon et al. 2011), philox4x32 with 10 rounds: counter, key, result.
VECTORS = [
    (("00000000",) * 4, ("00000000",) * 2, ("6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8")),
    (("ffffffff",) * 4, ("ffffffff",) * 2, ("408f276d", "41c83b0e", "a20bc7c6", "6d5451fd")),
    (
        ("243f6a88", "85a308d3", "13198a2e", "03707344"),
        ("a4093822", "299f31d0"),
        ("d16cfe09", "94fdcceb", "5001e420", "24126ea1"),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_known_answers(counter: tuple, key: tuple, expected: tuple) -> None:
    result = reference.philox4x32(tuple(int(w, 16) for w in counter), tuple(int(w, 16) for w in key))
    assert result == tuple(int(w, 16) for w in expected)


def test_uniform_is_53_bits_of_the_first_two_words() -> None:
    step, stream, seed = 2**40 + 3, 2**33 + 1, 2**63 + 5
    w0, w1, _, _ = reference.philox4x32((3, 2**8, 1, 2), (5, 2**31))
    assert reference.uniform(seed, stream, step) == ((w0 >> 5 << 26) + (w1 >> 6)) / 2**53


def test_uniform_depends_on_seed_stream_and_step() -> None:
    drawn = {reference.uniform(seed, stream, step) for seed in range(5) for stream in range(5) for step in range(5)}
    assert len(drawn) == 125


def test_uniform_is_uniform() -> None:
    drawn = np.array([reference.uniform(7, 0, step) for step in range(20_000)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
