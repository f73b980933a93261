import copy
import hashlib
import pickle

import numpy as np
import pytest

from knock.config import ModelConfig
from knock.errors import WeightsError
from knock.weights import Weights, shapes
from tests.cases import EXAMPLE, MIXED, SMALL, random_weights


def test_number_of_parameters_of_the_example_shape() -> None:
    assert Weights.random(EXAMPLE).n_parameters == 95_244


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        ("hybrid-relative", {"pos"}),
        ("hybrid-absolute", set()),
        ("reweight-relative", {"pos", "wq", "wk", "gate"}),
        ("reweight-absolute", {"wq", "wk", "gate"}),
        ("content-relative", {"pos", "wr", "gate"}),
        ("content-absolute", {"wr", "gate"}),
    ],
)
def test_arrays_by_head_type_and_position(kind: str, absent: set[str]) -> None:
    kinds = {name.split(".")[-1] for name in shapes(SMALL[kind])}
    every = {"embed", "pos", "gain", "bias", "wq", "wk", "wv", "wr", "gate", "w0", "w1", "wout"}
    assert kinds == every - absent


def test_shapes() -> None:
    V, T, C, H, F = 11, 6, 12, 3, 10
    named = shapes(SMALL["hybrid-absolute"])
    assert named["embed"] == (V, C)
    assert named["pos"] == (T, C)
    assert named["blocks.1.wr"] == (C, H * T)
    assert named["blocks.1.gate"] == (H,)
    assert named["blocks.1.w0"] == (C, F)
    assert named["wout"] == (C, V)


def test_shapes_of_each_block() -> None:
    named = shapes(MIXED["all"])  # windows 2, 3, 7, 5; reweight, hybrid, content and hybrid heads
    assert [named.get(f"blocks.{b}.wr") for b in range(4)] == [(12, 3 * 2), (12, 3 * 2), None, (12, 3 * 4)]
    for name, blocks in {"wq": [1, 2, 3], "wk": [1, 2, 3], "gate": [1, 3], "wv": [0, 1, 2, 3]}.items():
        assert [b for b in range(4) if f"blocks.{b}.{name}" in named] == blocks
    assert named["blocks.2.wq"] == (12, 12)


def test_random_weights_have_the_same_bits_as_ever() -> None:
    digest = hashlib.sha256()
    for config in SMALL.values():
        for array in Weights.random(config).values():
            digest.update(array.astype("<f4").tobytes())
    assert digest.hexdigest()[:16] == "5a3f4b86f10b88bf"


def test_random_depends_on_config_and_seed_only() -> None:
    first, second, other = Weights.random(EXAMPLE), Weights.random(EXAMPLE), Weights.random(EXAMPLE, seed=1)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["embed"], other["embed"])
    assert first["blocks.0.gate"].tolist() == [0.5] * 4


def test_weights_are_read_only_copies() -> None:
    arrays = {name: array.copy() for name, array in random_weights(SMALL["hybrid-relative"], 0).items()}
    weights = Weights(SMALL["hybrid-relative"], arrays)
    arrays["embed"][0, 0] = 7
    assert weights["embed"][0, 0] != 7
    with pytest.raises(ValueError, match="read-only"):
        weights["embed"][0, 0] = 7


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda weights: pickle.loads(pickle.dumps(weights))])
def test_copies_are_read_only(copied: object) -> None:
    weights = random_weights(SMALL["hybrid-relative"], 0)
    other = copied(weights)
    assert other.config == weights.config
    assert all(np.array_equal(other[name], weights[name]) for name in weights)
    with pytest.raises(ValueError, match="read-only"):
        other["embed"][0, 0] = 7


def test_random_standard_deviations() -> None:
    config = ModelConfig(vocab_size=500, T=64, n_emb=256, nodes=512, n_blocks=8, n_heads=4, position="absolute")
    weights = Weights.random(config)
    residual = 1 / np.sqrt(2 * 8)
    for name, std in (
        ("embed", 0.1), ("pos", 0.1), ("wout", 0.02), ("blocks.3.wr", 0.02), ("blocks.3.wq", 1 / 16),
        ("blocks.3.w0", 1 / 16), ("blocks.3.wv", residual / 16), ("blocks.3.w1", residual / np.sqrt(512)),
    ):  # fmt: skip
        assert weights[name].std() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.update(wout="x"), "'wout' must hold numbers"),
        (lambda a: a.pop("wout"), r"missing \['wout'\]"),
        (lambda a: a.update(extra=np.zeros(3)), r"unknown \['extra'\]"),
        (lambda a: a.update(wout=a["wout"].T), r"'wout' must have shape \[12, 11\]"),
        (lambda a: a.update(embed=a["embed"] * np.nan), "'embed' .* not finite"),
        (lambda a: a.update({"blocks.0.gate": np.array([0.5, 1.1, 0.5])}), "gates"),
    ],
)
def test_invalid_arrays_are_rejected(change: object, says: str) -> None:
    config: ModelConfig = SMALL["hybrid-relative"]
    arrays = dict(random_weights(config, 0))
    change(arrays)
    with pytest.raises(WeightsError, match=says):
        Weights(config, arrays)
