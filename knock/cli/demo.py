"""Take the two-minute tour: three ways of sampling, three types of heads.

It needs no model: the vocabulary is that of a small text that is built in, and the weights are random, so that what
comes is noise. What is to be seen is how it is made, and what the statistics say of it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from knock.cli.ui.options import add_backend_argument, whole_number
from knock.cli.ui.terminal import write

if TYPE_CHECKING:
    from knock.gpt import ReweightGPT
    from knock.sampling import Stats
    from knock.vocab import Vocab

EXAMPLES = """examples:
  knock demo
  knock demo --seed 7 --length 400
"""

# The opening of "A Tale of Two Cities" (Charles Dickens, 1859).
TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of "
    "Darkness, it was the spring of hope, it was the winter of despair."
)
PROMPT = "It was the "

_WAYS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("basic", "draws from the model's own distribution, at temperature 1", {}),
    ("top_p", "draws from the most likely characters that hold 0.8 of the probability", {"top_p": 0.8}),
    ("entropy", "sets the temperature at every step so that the entropy is 3 bits, within 0.3 and 2",
     {"target_entropy": 3.0, "min_temp": 0.3, "max_temp": 2.0}),
)  # fmt: skip
_HEADS = (
    ("reweight", "learned patterns over the window, and nothing else"),
    ("content", "query-key similarity, and nothing else"),
    ("hybrid", "both, mixed inside one softmax by a learned gate"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--seed", type=whole_number(0, 2**64 - 1), default=42, metavar="N",
                        help="of the weights and of the draws (default: 42)")  # fmt: skip
    parser.add_argument("--length", type=whole_number(1, 100_000), default=120, metavar="N",
                        help="characters of each text (default: 120)")  # fmt: skip
    add_backend_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write the tour."""
    from knock.gpt import ReweightGPT
    from knock.vocab import Vocab

    vocab = Vocab.from_text(TEXT)

    def model(head_type: Any) -> ReweightGPT:
        return ReweightGPT(vocab.vocab_size, head_type=head_type, seed=options.seed, backend=options.backend)

    write(f"A vocabulary: the {vocab.vocab_size} characters of a small text. A text of n characters is n tokens.\n")
    hybrid = model("hybrid")
    write(f"A model with random weights: {hybrid.weights.n_parameters:,} of them. It has learned nothing yet.\n\n")
    write(f"1. The same prompt, {PROMPT!r}, under three ways of sampling.\n")
    for name, what, controls in _WAYS:
        write(f"\n{name}: {what}\n")
        _show(hybrid, vocab, options, name, controls)
    write("\n2. The same prompt with three types of heads, all drawn the basic way.\n")
    for head_type, what in _HEADS:
        other = model(head_type)
        write(f"\n{head_type}: {what}; {other.config.position} positions, {other.weights.n_parameters:,} weights\n")
        _show(other, vocab, options, "basic", {})
    write(
        "\nUntrained, all characters are about equally likely, so that the entropy rule ends at its lowest "
        "temperature.\nA model that has learned:   knock generate ROMEO: --entropy 2 --stats\n"
        "One of your own:            knock train corpus.txt --out my.safetensors\n"
    )
    return 0


def _show(
    model: ReweightGPT, vocab: Vocab, options: argparse.Namespace, sampling: str, controls: dict[str, Any]
) -> None:
    tokens, stats = model.generate(
        vocab.encode(PROMPT), options.length, sampling=sampling, seed=options.seed, **controls
    )
    write(f"  | {PROMPT}{vocab.decode(tokens)}\n  {_summary(stats)}\n")


def _summary(stats: Stats) -> str:
    return (
        f"entropy {stats['mean_entropy']:.2f} bits ({stats['min_entropy']:.2f} to {stats['max_entropy']:.2f}), "
        f"confidence {stats['mean_confidence']:.3f}, temperature {stats['mean_temp']:.3f}, "
        f"surprise {stats['mean_surprise']:.2f} bits"
    )
