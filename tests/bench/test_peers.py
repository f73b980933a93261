"""The weights of the peers, without their frameworks."""

from __future__ import annotations

import pytest

from bench.peers.folded import fold
from tests.cases import EVERY, SMALL, random_weights


def test_fold_makes_one_projection_of_each_block() -> None:
    config = SMALL["hybrid-relative"]
    folded = fold(random_weights(config, 0))
    width = config.n_heads * (3 * config.head_width + config.windows[0])
    assert folded.table.shape == (config.vocab_size, width)
    assert [block.w_in.shape for block in folded.blocks] == [(config.n_emb, width)] * config.n_blocks


@pytest.mark.parametrize("name", [name for name in EVERY if name != "hybrid-relative"])
def test_fold_rejects_models_that_peers_do_not_support(name: str) -> None:
    with pytest.raises(ValueError, match="relative hybrid models whose blocks are all alike"):
        fold(random_weights(EVERY[name], 0))
