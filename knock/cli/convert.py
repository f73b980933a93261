"""Convert a model file to another format.

OUT ends in .safetensors, which is what knock writes by itself, or in .npz, which NumPy reads without anything else.
The model stays the same to the last bit, with its vocabulary and its training record, and so does its digest.
Reweight-only models in the older .npz layout are read too; they have no vocabulary until --vocab gives them one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from knock.choices import STORED_TYPES
from knock.cli.ui.options import add_force_argument
from knock.cli.ui.terminal import printable, say, write
from knock.models import locate

if TYPE_CHECKING:
    from knock.files.checkpoint import Checkpoint
    from knock.vocab import Vocab

EXAMPLES = """examples:
  knock convert my.safetensors my.npz
  knock convert my.npz my.safetensors --stored bfloat16
  knock convert older.npz my.safetensors --vocab corpus.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("model", metavar="IN", help="a model file, a folder that holds one, or a shipped model")
    parser.add_argument("out", metavar="OUT", help="a new file, .safetensors or .npz")
    parser.add_argument("--vocab", metavar="FILE",
                        help="a text whose distinct characters, sorted, are the vocabulary of a model without one: "
                             "the text it was trained on")  # fmt: skip
    parser.add_argument("--stored", choices=STORED_TYPES, default="float32",
                        help="how weights are kept in a .safetensors file; bfloat16 halves it, and rounds each "
                             "weight to 8 bits of precision (default: float32)")  # fmt: skip
    add_force_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write the file, and say what it is."""
    from knock.files.checkpoint import check_writable, model_digest, read_checkpoint, write_checkpoint
    from knock.files.output import check_free

    source, out = locate(options.model), Path(options.out)
    check_writable(out)
    check_free(out, force=options.force, inputs=[source])
    checkpoint = read_checkpoint(source)
    vocab = _vocab(checkpoint, options.vocab)
    digest = write_checkpoint(out, checkpoint.weights, vocab, checkpoint.training, stored=options.stored)
    if vocab is None:
        say("knock: the model has no vocabulary, so it cannot be used for text; --vocab FILE gives it one")
    exact = model_digest(checkpoint.weights, vocab)
    if digest != exact:
        say(f"knock: its weights are rounded to {options.stored}, which makes it another model; it was {exact}")
    size, before = out.stat().st_size, source.stat().st_size
    write(f"{printable(str(out))}: {size:,} bytes, from {before:,}; digest {digest}\n")
    return 0


def _vocab(checkpoint: Checkpoint, path: str | None) -> Vocab | None:
    """The model's vocabulary, or, where it has none, that of a text."""
    from knock.errors import CheckpointError, TextError
    from knock.files.text import read_text
    from knock.vocab import Vocab

    if path is None:
        return checkpoint.vocab
    if checkpoint.vocab is not None:
        raise CheckpointError(f"the model has a vocabulary, of {checkpoint.vocab.describe()}; leave --vocab out")
    text = read_text(path)
    if not text:
        raise TextError(f"{path!r} is empty, expected the text that the model was trained on")
    vocab, due = Vocab.from_text(text), checkpoint.weights.config.vocab_size
    if vocab.vocab_size != due:
        raise CheckpointError(
            f"the model has {due} tokens and {path!r} {vocab.vocab_size} distinct characters; "
            "--vocab takes the text that the model was trained on"
        )
    return vocab
