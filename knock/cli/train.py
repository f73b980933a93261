"""Train a model on a text.

Progress goes to standard error. The weights with the best validation loss are kept, and Ctrl-C ends the training
early and keeps the best so far.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from knock.cli.interrupts import Interrupts
from knock.cli.options import whole_number
from knock.cli.terminal import columns, is_live, read_input, say
from knock.errors import KnockError

if TYPE_CHECKING:
    from knock.vocab import Vocab
    from knock.weights import Weights
    from knock_training.trainer import Progress

EXAMPLES = """examples:
  knock train corpus.txt --out my.safetensors
  knock train names.txt --out names.safetensors --T 16 --steps 1000 --lowercase
  knock generate --model my.safetensors
"""

_SAMPLE_EVERY = 3  # evaluations
_SAMPLE_LENGTH = 160
_SHAPE = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "head_type", "position", "alpha")
_RECIPE = ("steps", "batch_chars", "learning_rate", "eval_interval", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""

    def option(name: str, type_: Any, metavar: str, help_: str) -> None:
        parser.add_argument(name, type=type_, metavar=metavar, default=argparse.SUPPRESS, help=help_)

    count = whole_number(1)
    parser.add_argument("corpus", metavar="CORPUS",
                        help="a UTF-8 text, or - for standard input; its last 10%% are for validation")  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FILE", help="where the model goes, a .safetensors file")
    parser.add_argument("--lowercase", action="store_true", help="read upper-case letters as lower-case")
    parser.add_argument(
        "--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads; with 1, runs repeat exactly"
    )
    option("--steps", count, "N", "optimiser steps (default: 3000)")
    option("--batch-chars", count, "N", "characters a step (default: 4096)")
    option("--learning-rate", float, "X", "largest learning rate (default: 0.01)")
    option("--eval-interval", count, "N", "steps between validation losses (default: 250)")
    option("--seed", whole_number(0, 2**64 - 1), "N", "of the initial weights and the batches (default: 42)")
    option("--T", count, "N", "context window of one layer (default: 32)")
    option("--n-emb", count, "N", "embedding width (default: 64)")
    option("--nodes", count, "N", "width of the MLP (default: 64)")
    option("--n-blocks", count, "N", "blocks (default: 3)")
    option("--n-heads", count, "N", "attention heads a block (default: 4)")
    option("--head-type", str, "TYPE", "hybrid, reweight or content (default: hybrid)")
    option("--position", str, "MODE", "relative or absolute (default: what suits the heads)")
    option("--alpha", float, "X", "where the hybrid heads' gates start, 0 to 1 (default: 0.5)")


def run(options: argparse.Namespace) -> int:
    """Train, save, evaluate, report."""
    if importlib.util.find_spec("torch") is None:
        raise KnockError("training needs PyTorch, which is not installed; run: pip install 'knock-lm[train]'")
    from knock.checkpoint import check_writable, write_checkpoint
    from knock.config import ModelConfig

    given = vars(options)
    shape = {name: given[name] for name in _SHAPE if name in given}
    ModelConfig(vocab_size=1, **shape)  # complain about the shape before the wait for PyTorch
    check_writable(options.out)

    import torch

    from knock_training.data import Corpus
    from knock_training.evaluate import as_record, evaluate
    from knock_training.model import Twin
    from knock_training.recipe import Recipe
    from knock_training.trainer import sequence_length, train

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.corpus == "-":
        corpus = Corpus.from_text(read_input(), "standard input", lowercase=options.lowercase)
    else:
        corpus = Corpus.read(options.corpus, lowercase=options.lowercase)
    recipe = Recipe(**{name: given[name] for name in _RECIPE if name in given})
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **shape)
    length = sequence_length(config, corpus, recipe)
    say(f"{corpus.name}: {len(corpus):,} characters, {corpus.vocab.vocab_size} distinct, in sequences of {length}")
    say("Ctrl-C stops early and keeps the best so far")
    reporter = _Reporter(corpus.vocab)
    with Interrupts() as interrupts, _told_when_too_large():
        result = train(config, corpus, recipe, report=reporter.report, should_stop=_said_once(interrupts))
        # Saved before anything else can go wrong; the evaluation is added when it is there.
        digest = write_checkpoint(options.out, result.weights, corpus.vocab, result.record)
        say(f"{result.ended} after {result.record['steps_done']:,} steps; best at step {result.record['best_step']:,}")
        if result.ended == "diverged":
            say("the loss was no longer a finite number; try a smaller --learning-rate")
        say(f"saved {options.out}, {result.weights.n_parameters:,} parameters, digest {digest[:16]}")
        with interrupts.idle():
            evaluation = evaluate(Twin(result.weights), corpus.validation)
        record = result.record | {"evaluation": as_record(evaluation)}
        write_checkpoint(options.out, result.weights, corpus.vocab, record)
    for name, loss in evaluation.items():
        say(f"validation, {name.replace('_', ' ')}: {loss}")
    return {"done": 0, "interrupted": 130, "diverged": 1}[result.ended]


def _said_once(interrupts: Interrupts) -> Callable[[], bool]:
    """Whether to stop, asked before every step; says so the first time."""
    has_said = False

    def should_stop() -> bool:
        nonlocal has_said
        if interrupts.asked and not has_said:
            has_said = True
            say("\nstopping; Ctrl-C again to stop without saving")
        return interrupts.asked

    return should_stop


@contextmanager
def _told_when_too_large() -> Iterator[None]:
    """PyTorch tells that memory is short by a RuntimeError like any other."""
    try:
        yield
    except RuntimeError as error:
        if "alloc" not in str(error):
            raise
        raise MemoryError("PyTorch could not allocate what a training step needs") from error


class _Reporter:
    """Lines of progress: one an evaluation, a running one on a terminal, and a sample now and then."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._evaluations = 0
        self._live = is_live()
        self._next_line = 0.0

    def report(self, progress: Progress) -> None:
        line = (
            f"step {progress.step:>{len(f'{progress.steps:,}')},}/{progress.steps:,}  loss {progress.loss:.4f}"
            f"{{}}  {progress.chars_per_second:,.0f} chars/s  {_clock(progress.seconds_left)} left"
        )
        if progress.weights is None:
            if self._live and time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + 0.2
                say(f"\r{line.format('')[: columns() - 1]}\x1b[K", end="")
            return
        say(("\r\x1b[K" if self._live else "") + line.format(f"  validation {progress.validation_loss:.4f}"))
        if self._evaluations % _SAMPLE_EVERY == 0:
            say(_indent(self._sample(progress.weights)))
        self._evaluations += 1

    def _sample(self, weights: Weights) -> str:
        from knock.gpt import ReweightGPT
        from knock.model import LanguageModel

        model = LanguageModel(ReweightGPT.from_weights(weights, backend="numpy"), self._vocab)
        return model.generate(max_new_tokens=_SAMPLE_LENGTH, temperature=0.8, seed=self._evaluations).text


def _indent(text: str) -> str:
    return "\n".join(f"    | {line}" for line in text.split("\n"))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"
