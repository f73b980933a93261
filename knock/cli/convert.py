"""Convert a model file to another format.

OUT ends in .safetensors, the default format of knock, or in .npz, which NumPy can read on its own. Weights, vocabulary,
training record and digest are preserved exactly, unless --stored bfloat16 rounds the weights. Reweight-only models in
the older .npz layout can be read, too; they have no vocabulary, so pass --vocab to add one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from knock.choices import STORED_TYPES
from knock.cli.ui.options import add_force_argument, path_ending_in
from knock.cli.ui.terminal import columns, is_wrapped, printable, say, wrapped, write
from knock.models import SUFFIXES, locate

if TYPE_CHECKING:
    from knock.files.checkpoint import Checkpoint
    from knock.vocab import Vocab

EXAMPLES = """examples:
  knock convert my.safetensors my.npz
  knock convert my.npz my.safetensors --stored bfloat16
  knock convert older.npz my.safetensors --vocab corpus.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", metavar="IN", help="model file, folder that contains one, or name of a shipped model")
    parser.add_argument(
        "out", type=path_ending_in(*SUFFIXES), metavar="OUT", help="file to write, .safetensors or .npz"
    )
    parser.add_argument("--vocab", metavar="FILE",
                        help="the text that a model without a vocabulary was trained on; its distinct characters, "
                             "sorted, become the vocabulary")  # fmt: skip
    parser.add_argument("--stored", choices=STORED_TYPES, default="float32",
                        help="type of the weights in a .safetensors file; bfloat16 halves its size but rounds the "
                             "weights to 8 bits of precision (default: float32)")  # fmt: skip
    add_force_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write the file and print its size and the digest of the model."""
    from knock.files.checkpoint import check_writable, model_digest, read_checkpoint, write_checkpoint
    from knock.files.output import check_free

    source, out = locate(options.model), Path(options.out)
    check_writable(out)
    check_free(out, force=options.force, inputs=[source])
    checkpoint = read_checkpoint(source)
    vocab = _vocab(checkpoint, options.vocab)
    digest = write_checkpoint(out, checkpoint.weights, vocab, checkpoint.training, stored=options.stored)
    if vocab is None:
        say("knock: the model has no vocabulary, so it cannot be used for text; pass --vocab FILE to add one")
    exact = model_digest(checkpoint.weights, vocab)
    if digest != exact:
        say(f"knock: the weights were rounded to {options.stored}, which changes the digest; it was {exact}")
    size, before = out.stat().st_size, source.stat().st_size
    line = f"{printable(str(out))}: {size:,} bytes, from {before:,}"
    write((wrapped(line, columns()) if is_wrapped() else line) + f"\ndigest {digest}\n")
    return 0


def _vocab(checkpoint: Checkpoint, path: str | None) -> Vocab | None:
    """Return the model's vocabulary or, if it has none, that of the text at `path`.

    Raises:
        CheckpointError: if the model already has a vocabulary, or the text does not match it.
        TextError: if the text is empty or cannot be read.
    """
    from knock.errors import CheckpointError, TextError
    from knock.files.text import read_text
    from knock.vocab import Vocab

    if path is None:
        return checkpoint.vocab
    if checkpoint.vocab is not None:
        raise CheckpointError(f"the model already has a vocabulary, {checkpoint.vocab.describe()}; omit --vocab")
    text = read_text(path)
    if not text:
        raise TextError(f"{path!r} is empty; pass the text that the model was trained on")
    vocab, expected = Vocab.from_text(text), checkpoint.weights.config.vocab_size
    if vocab.vocab_size != expected:
        raise CheckpointError(
            f"the model has {expected} tokens, but {path!r} has {vocab.vocab_size} distinct characters; "
            "pass the text that the model was trained on"
        )
    return vocab
