import json

import numpy as np
import pytest

from knock import ModelConfig
from knock.errors import ConfigError, KnockError


def test_defaults_are_the_example_shape() -> None:
    config = ModelConfig(vocab_size=65)
    assert (config.T, config.n_emb, config.nodes, config.n_blocks, config.n_heads) == (32, 64, 64, 3, 4)
    assert (config.head_type, config.position, config.alpha) == ("hybrid", "relative", 0.5)
    assert config.head_width == 16


@pytest.mark.parametrize(
    ("head_type", "position"), [("hybrid", "relative"), ("reweight", "relative"), ("content", "absolute")]
)
def test_default_position_depends_on_the_head_type(head_type: str, position: str) -> None:
    assert ModelConfig(vocab_size=5, head_type=head_type).position == position


def test_receptive_field() -> None:
    assert ModelConfig(vocab_size=5, T=32, n_blocks=3).receptive_field == 3 * 31 + 1
    assert ModelConfig(vocab_size=5, T=32, n_blocks=3, position="absolute").receptive_field == 32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"T": -1}, "T must be"),
        ({"T": 3.0}, "T must be"),
        ({"n_emb": True}, "n_emb"),
        ({"n_blocks": "3"}, "n_blocks"),
        ({"n_emb": 65}, "n_heads=5 fits"),
        ({"head_type": "hybird"}, "hybrid, reweight, content"),
        ({"position": "rotary"}, "relative, absolute"),
        ({"head_type": np.zeros((2, 2))}, r"hybrid, reweight, content, got array\(\[\[0., 0.\], "),
        ({"position": np.zeros(2)}, "relative, absolute, got array"),
        ({"n_blocks": 1001}, "from 1 to 1000"),
        ({"vocab_size": 10**18}, "vocab_size"),
        ({"T": 10**5000}, "too long to show"),
        ({"n_emb": 10**10 + 1}, "n_emb"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": "x"}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
    ],
)
def test_invalid_field_is_rejected_by_name(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        ModelConfig(**{"vocab_size": 65} | change)
    assert isinstance(caught.value, KnockError)
    assert isinstance(caught.value, ValueError)


def test_numpy_numbers_are_accepted() -> None:
    config = ModelConfig(vocab_size=np.int64(7), alpha=np.float32(0.5))
    assert config == ModelConfig(vocab_size=7)
    assert type(config.vocab_size) is int


def test_dict_round_trip() -> None:
    config = ModelConfig(vocab_size=7, T=3, n_emb=6, n_heads=2, head_type="content", alpha=0.25)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("change", [{"extra": 1}, {"T": None}])
def test_dict_with_other_fields_is_rejected(change: dict) -> None:
    values = ModelConfig(vocab_size=7).to_dict() | change
    if values["T"] is None:
        del values["T"]
    with pytest.raises(ConfigError, match="missing"):
        ModelConfig.from_dict(values)
