import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from knock import ModelConfig
from knock.errors import ConfigError, KnockError
from tests.cases import configs


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


REWEIGHT_AND_CONTENT = {"n_blocks": 4, "T": (2, 32, 32, 512), "head_type": ("reweight",) * 3 + ("content",)}


def test_values_for_each_block() -> None:
    config = ModelConfig(vocab_size=5, **REWEIGHT_AND_CONTENT)
    assert config.T == config.windows == (2, 32, 32, 512)
    assert config.head_type == config.head_types == ("reweight", "reweight", "reweight", "content")
    assert config.reweight_windows == (2, 32, 32, 0)
    assert config.longest_window == 512
    assert config.receptive_field == 1 + 1 + 31 + 31 + 511
    assert (config.position, config.has_reweight, config.has_content, config.has_hybrid) == (
        "relative",
        True,
        True,
        False,
    )
    assert [block.has_content for block in config.blocks] == [False, False, False, True]
    assert [block.has_reweight for block in config.blocks] == [True, True, True, False]
    assert not config.is_uniform
    assert hash(config) == hash(ModelConfig.from_dict(config.to_dict()))


def test_one_value_is_for_all_blocks() -> None:
    config = ModelConfig(vocab_size=5, T=8)
    assert config.is_uniform
    assert (config.windows, config.reweight_windows, config.head_types) == ((8,) * 3, (8,) * 3, ("hybrid",) * 3)
    assert ModelConfig(vocab_size=5, head_type="content").reweight_windows == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ({"T": (8, 8, 8)}, {"T": 8}),
        ({"T": [2, 8, 8]}, {"T": (2, 8, 8)}),
        ({"T": (np.int64(2), 8, 8)}, {"T": (2, 8, 8)}),
        ({"head_type": ["content"] * 3}, {"head_type": "content"}),
        ({"T": [4], "n_blocks": 1}, {"T": 4, "n_blocks": 1}),
        ({"reweight_T": 32}, {}),
        ({"reweight_T": (32, 32, 32)}, {}),
        ({"reweight_T": (8, 8, 8)}, {"reweight_T": 8}),
        ({"T": (2, 8, 8), "reweight_T": (2, 8, 8)}, {"T": (2, 8, 8)}),
        ({"head_type": "content", "reweight_T": 3}, {"head_type": "content"}),
        ({"head_type": "reweight", "reweight_T": 32}, {"head_type": "reweight"}),
        (
            {"head_type": ("reweight", "hybrid", "content"), "reweight_T": (32, 4, 7)},
            {"head_type": ("reweight", "hybrid", "content"), "reweight_T": 4},
        ),
        (
            {"head_type": ("hybrid", "hybrid", "content"), "reweight_T": (3, 4, 7)},
            {"head_type": ("hybrid", "hybrid", "content"), "reweight_T": (3, 4, 0)},
        ),
    ],
)
def test_equal_models_have_equal_configs(given: dict, canonical: dict) -> None:
    config, expected = (ModelConfig(vocab_size=5, **fields) for fields in (given, canonical))
    assert config == expected
    assert {name: getattr(config, name) for name in canonical} == canonical
    assert config.to_dict() == expected.to_dict()


@given(configs())
def test_every_config_is_canonical(config: ModelConfig) -> None:
    values = json.loads(json.dumps(config.to_dict()))
    assert ModelConfig.from_dict(values) == config
    assert ("reweight_T" in values) == (config.reweight_T is not None)
    by_block = {"T": config.windows, "head_type": config.head_types, "reweight_T": config.reweight_windows}
    assert replace(config, **by_block) == config


def test_a_config_without_values_for_blocks_is_written_as_before() -> None:
    assert json.dumps(ModelConfig(vocab_size=7).to_dict()) == (
        '{"vocab_size": 7, "T": 32, "n_emb": 64, "nodes": 64, "n_blocks": 3, "n_heads": 4, "head_type": "hybrid", '
        '"alpha": 0.5, "position": "relative"}'
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"T": (2, 3)}, r"T must be one value, or one for each of n_blocks=3, got 2: \(2, 3\)"),
        ({"T": ()}, r"one for each of n_blocks=3, got 0: \(\)"),
        ({"T": [8] * 10**6}, "n_blocks=3, got 1000000: "),
        ({"T": (2, 0, 3)}, "T of block 2 must be a whole number from 1 to 1048576, got 0"),
        ({"T": (2, [3], 3)}, r"T of block 2 must be .*, got \[3\]"),
        ({"T": "8,8,8"}, "T must be a whole number"),
        ({"T": {8: 1}}, "T must be a whole number"),
        ({"head_type": ("hybrid", "x", "content")}, "head_type of block 2 must be one of hybrid, .*, got 'x'"),
        ({"head_type": ["hybrid"]}, "head_type must be one value, or one for each of n_blocks=3, got 1"),
        ({"reweight_T": 33}, "reweight_T must be from 1 to the window, T=32 in block 1, got 33"),
        ({"reweight_T": (32, 0, 32)}, "reweight_T of block 2 must be from 1 to the window, T=32 in block 2, got 0"),
        ({"reweight_T": -1}, "reweight_T must be a whole number"),
        ({"reweight_T": (4, 4)}, "reweight_T must be one value"),
        ({"reweight_T": 4, "head_type": "reweight"}, "is for hybrid heads, .* block 1 has reweight heads with T=32"),
        ({"T": (2, 3, 4), "position": "absolute"}, r"absolute positions have one window, .* got T=\(2, 3, 4\)"),
        ({"T": (2, 3, 4), "head_type": "content"}, "absolute positions have one window"),
        ({"reweight_T": 4, "position": "absolute"}, "absolute positions have one window, .* got reweight_T=4"),
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
