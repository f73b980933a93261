"""A tour without a model file, of random weights: three sampling methods, three types of heads.

It uses the vocabulary of a short built-in text. The output is noise; compare the statistics of the different settings.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from knock.cli.ui.terminal import columns, wrapped, write

if TYPE_CHECKING:
    from knock.gpt import ReweightGPT
    from knock.sampling import Stats
    from knock.vocab import Vocab

# The opening of "A Tale of Two Cities" (Charles Dickens, 1859).
TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of "
    "Darkness, it was the spring of hope, it was the winter of despair."
)
PROMPT = "It was the "

_METHODS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("basic", "draws from the model's own distribution, at temperature 1", {}),
    ("top_p", "draws from the most likely characters with total probability 0.8", {"top_p": 0.8}),
    ("entropy", "chooses the temperature, from 0.3 to 2, at each step so that the entropy is 3 bits",
     {"target_entropy": 3.0, "entropy_rule": "exact", "min_temp": 0.3, "max_temp": 2.0}),
)  # fmt: skip
_MARGIN = "  | "
_HEADS = (
    ("reweight", "only learned patterns over the window"),
    ("content", "only query-key similarity"),
    ("hybrid", "both, mixed inside one softmax by a learned gate"),
)


def tour_random_weights(options: argparse.Namespace) -> int:
    """Run the tour; return the exit code."""
    from knock.gpt import ReweightGPT
    from knock.vocab import Vocab

    vocab = Vocab.from_text(TEXT)

    def model(head_type: Any) -> ReweightGPT:
        return ReweightGPT(vocab.vocab_size, head_type=head_type, seed=options.seed, backend=options.backend)

    _say(f"Vocabulary: the {vocab.vocab_size} distinct characters of a short text. Each character is one token.\n")
    hybrid = model("hybrid")
    _say(f"Model: {hybrid.weights.n_parameters:,} random weights. It has not been trained.\n\n")
    _say(f"1. The same prompt, {PROMPT!r}, with three sampling methods.\n")
    for name, what, controls in _METHODS:
        _say(f"\n{name}: {what}\n")
        _show(hybrid, vocab, options, name, controls)
    _say("\n2. The same prompt with three types of heads, and basic sampling.\n")
    for head_type, what in _HEADS:
        other = model(head_type)
        _say(f"\n{head_type}: {what}; {other.config.position} positions, {other.weights.n_parameters:,} weights\n")
        _show(other, vocab, options, "basic", {})
    _say(
        "\nTo an untrained model all characters are about equally likely, so the entropy rule stays at its lowest "
        "temperature.\n\nUse a trained model:\n  knock generate ROMEO: --entropy 2\n"
        "Train your own:\n  knock train corpus.txt --out my.safetensors\n"
    )
    return 0


def _show(
    model: ReweightGPT, vocab: Vocab, options: argparse.Namespace, sampling: str, controls: dict[str, Any]
) -> None:
    tokens, stats = model.generate(
        vocab.encode(PROMPT), options.length, sampling=sampling, seed=options.seed, **controls
    )
    # Kept whole: the text has runs of spaces, and words longer than a line.
    lines = textwrap.wrap(
        PROMPT + vocab.decode(tokens), max(columns() - len(_MARGIN), 10),
        replace_whitespace=False, drop_whitespace=False, break_on_hyphens=False,
    )  # fmt: skip
    _say("".join(f"{_MARGIN}{line}\n" for line in lines) + f"  {_summary(stats)}\n")


def _say(text: str) -> None:
    """Write text to standard output, wrapped at the width of the terminal."""
    write(wrapped(text, columns()))


def _summary(stats: Stats) -> str:
    return (
        f"entropy {stats['mean_entropy']:.2f} bits ({stats['min_entropy']:.2f} to {stats['max_entropy']:.2f}), "
        f"confidence {stats['mean_confidence']:.3f}, temperature {stats['mean_temp']:.3f}, "
        f"surprise {stats['mean_surprise']:.2f} bits"
    )
