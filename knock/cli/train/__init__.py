"""Train a model on a text.

Progress goes to standard error. During the run, FILE holds the weights with the best validation loss so far, and
FILE.run the state to resume from. Ctrl-C stops early; --resume continues.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.choices import UNKNOWN
from knock.cli.train.job import SHAPE, Job, given, new_job, resumed_job, step_threads
from knock.cli.ui.interrupts import Interrupts, exit_code, is_terminated
from knock.cli.ui.options import add_force_argument, whole_number
from knock.cli.ui.terminal import is_stream, printable, say
from knock.errors import ConfigError, TrainingError, VocabError, missing_package

if TYPE_CHECKING:
    from knock.files.checkpoint import Checkpoint
    from knock.weights import Weights
    from knock_training.evaluate import Loss
    from knock_training.team import Team
    from knock_training.trainer import TrainingResult

EXAMPLES = """examples:
  knock train corpus.txt --out my.safetensors
  knock train corpus.txt --out my.safetensors --resume
  knock train books/ letters.txt --out my.safetensors --size small --minutes 60 --patience 5
  knock train names.txt --out names.safetensors --T 16 --steps 1000 --lowercase
  knock train poems.txt --out poems.safetensors --vocab-from shakespeare-small --minutes 5
  torchrun --nproc-per-node 2 -m knock_training corpus.txt --out my.safetensors
  knock generate --model my.safetensors
"""

_TINY = 20_000  # characters
_SIZES = ("auto", "nano", "small")
_AFTER_INTERRUPT = 10.0  # seconds for the final evaluation of an interrupted run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""

    def option(group: Any, name: str, type_: Any, metavar: str, help_: str) -> None:
        group.add_argument(name, type=type_, metavar=metavar, default=argparse.SUPPRESS, help=help_)

    count = whole_number(1)
    parser.add_argument("corpus", nargs="+", metavar="CORPUS",
                        help="UTF-8 text files, or folders of .txt files, joined in this order; - alone is standard "
                             "input. The last 10%% are held out for validation")  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FILE",
                        help="write the model to FILE, ending in .safetensors or .npz")  # fmt: skip
    parser.add_argument("--resume", action="store_true",
                        help="resume an interrupted run with its original settings")  # fmt: skip
    add_force_argument(parser)
    parser.add_argument("--size", choices=_SIZES, default="auto",
                        help="model size: nano trains in minutes, small takes an hour and writes better (default: "
                             "chosen by corpus length and available time)")  # fmt: skip
    parser.add_argument("--minutes", type=_minutes, metavar="M",
                        help="train for M minutes, including loading and evaluation")  # fmt: skip
    parser.add_argument("--vocab-from", metavar="MODEL",
                        help="fine-tune MODEL, keeping its vocabulary and shape")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that MODEL does not know (default: error)")  # fmt: skip
    parser.add_argument("--lowercase", action="store_true", help="convert the corpus to lower case")
    parser.add_argument("--metrics", metavar="FILE", help="write losses and speed to FILE as JSON lines")
    parser.add_argument("--tensorboard", metavar="FOLDER", help="write losses and speed for TensorBoard")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: a GPU if available)")
    parser.add_argument(
        "--threads",
        type=whole_number(1, 1024),
        metavar="N",
        help="CPU threads; 1 makes runs reproducible (default: the fastest number, timed during the run)",
    )
    shape = parser.add_argument_group("shape, overriding --size")
    option(shape, "--T", count, "N", "context window of one block, in characters")
    option(shape, "--n-emb", count, "N", "embedding width")
    option(shape, "--nodes", count, "N", "MLP width")
    option(shape, "--n-blocks", count, "N", "number of blocks")
    option(shape, "--n-heads", count, "N", "attention heads per block")
    option(shape, "--head-type", str, "TYPE", "hybrid, reweight or content")
    option(shape, "--position", str, "MODE", "relative or absolute (default: depends on --head-type)")
    option(shape, "--alpha", float, "X", "initial gate of hybrid heads, 0 to 1 (default: 0.5)")
    recipe = parser.add_argument_group("recipe, overriding --size")
    option(recipe, "--steps", count, "N", "optimiser steps")
    option(recipe, "--batch-chars", count, "N", "characters per step (default: 4096)")
    option(recipe, "--windows", count, "N", "length of a training sequence, in windows of T (default: 4)")
    option(recipe, "--optimizer", str, "NAME", "optimiser for the blocks' matrices: muon or adamw (default: muon)")
    option(recipe, "--learning-rate", float, "X", "peak learning rate of AdamW")
    option(recipe, "--matrix-learning-rate", float, "X", "peak learning rate of Muon")
    option(recipe, "--precision", str, "NAME",
           "float32 or bfloat16 for matrix products (default: bfloat16 if accelerated)")  # fmt: skip
    option(recipe, "--schedule", str, "NAME",
           "learning rate schedule: cosine, or wsd (constant, then decay) (default: cosine)")  # fmt: skip
    option(recipe, "--weight-decay", float, "X", "weight decay of matrices (default: 0.1)")
    option(recipe, "--ema", float, "X", "decay of the moving average of the weights; 0 disables it")
    option(recipe, "--dropout", float, "X", "dropout rate of embeddings, attention and MLP outputs")
    option(recipe, "--eval-interval", count, "N", "steps between evaluations (default: 250)")
    option(recipe, "--patience", count, "N", "stop after N evaluations without a lower validation loss")
    option(recipe, "--seed", whole_number(0, 2**64 - 1), "N", "seed of weights, batches and dropout (default: 42)")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number of minutes above 0, got {text!r}")
    return value


def run(options: argparse.Namespace) -> int:
    """Train a model, save it, evaluate it and print the results; return the exit code."""
    if importlib.util.find_spec("torch") is None:
        raise missing_package("training", "PyTorch", "train")
    from knock.files.checkpoint import check_writable

    started = time.monotonic()
    _check_shape(options)  # before PyTorch takes seconds to import
    check_writable(options.out)
    if "-" in options.corpus and len(options.corpus) > 1:
        options.error("- (standard input) must be the only CORPUS")
    if options.metrics is not None and Path(options.metrics) == Path(options.out):
        options.error("--metrics and --out name the same file; rename one of them")
    if options.vocab_from is not None and (options.lowercase or given(options, SHAPE)):
        options.error("--vocab-from keeps the model's vocabulary and shape; drop --lowercase and the shape options")
    if options.minutes is not None and "steps" in vars(options):
        options.error("--minutes sets the number of steps; drop --steps")
    base = None if options.vocab_from is None else _base_model(options)
    _check_files(options)

    import torch

    from knock_training.team import Team

    if options.threads:
        torch.set_num_threads(options.threads)
    with Team.here(options.device) as team:
        return _train(options, team, base, started)


def _check_files(options: argparse.Namespace) -> None:
    """Reject output files that would overwrite existing ones, before any work is done."""
    from knock.files.output import check_free
    from knock_training.state import state_path

    if options.resume and options.force:
        options.error("--resume continues the run and --force overwrites it; give one of them")
    may_exist = options.resume or options.force
    inputs = [path for path in options.corpus if path != "-"]
    state = state_path(options.out)
    check_free(state, force=may_exist, problem="holds an unfinished run", resumable=True, inputs=inputs)
    check_free(options.out, force=may_exist, inputs=inputs)
    if options.metrics is not None and not is_stream(options.metrics):
        check_free(options.metrics, force=may_exist, inputs=[*inputs, options.out])


def _check_shape(options: argparse.Namespace) -> None:
    """Raise `ConfigError` if the shape options are invalid for every size that could be chosen."""
    from knock.config import ModelConfig
    from knock_training.sizes import SIZES

    errors = []
    for size in SIZES.values() if options.size == "auto" else [SIZES[options.size]]:
        try:
            ModelConfig(**{"vocab_size": 1, **size.shape, **given(options, SHAPE)})
        except ConfigError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _base_model(options: argparse.Namespace) -> Checkpoint:
    """Read the model to fine-tune."""
    from knock.files.checkpoint import read_checkpoint
    from knock.models import locate

    path = locate(options.vocab_from)
    if Path(options.out).exists() and path.samefile(options.out):
        options.error("--vocab-from and --out name the same file; choose another --out")
    base = read_checkpoint(path)
    if base.vocab is None:
        raise VocabError(f"model {options.vocab_from!r} has no vocabulary; choose a model that has one")
    return base


def _train(options: argparse.Namespace, team: Team, base: Checkpoint | None, started: float) -> int:
    from knock.cli.train.display import Display
    from knock.files.checkpoint import write_checkpoint
    from knock.jobs.row_file import locked
    from knock.weights import shapes
    from knock_training.run import sequence_length
    from knock_training.state import state_path
    from knock_training.trainer import train

    notify = say if team.leads else _ignore
    if team.size > 1 and options.corpus == ["-"]:
        raise TrainingError("several processes cannot share standard input; write the text to a file")
    state, threads = state_path(options.out), step_threads(options, team)
    if options.resume:
        job = resumed_job(options, state, base)
    else:
        job = new_job(options, team, base, threads, started, notify)
    corpus, config, recipe = job.corpus, job.config, job.recipe
    length = sequence_length(config, corpus, recipe)
    name = printable(corpus.name)
    notify(f"{name}: {len(corpus):,} characters, {corpus.vocab.vocab_size} distinct, in sequences of {length}")
    if corpus.unknown_count:
        share = corpus.unknown_count / (len(corpus) + (corpus.unknown_count if corpus.unknown == "skip" else 0))
        notify(f"{_UNKNOWN_DONE[corpus.unknown]} unknown characters: {corpus.unknown_count:,}, {share:.2%} of the text")
    if len(corpus) < _TINY:
        notify(f"the corpus is small, so the model may overfit; {5 * _TINY:,} characters or more work better")
    size = sum(math.prod(shape) for shape in shapes(config).values())
    shape = " ".join(f"{name}={getattr(config, name)}" for name in SHAPE[:5])
    notify(f"{config.head_type} heads, {config.position} positions, {shape}, {size:,} parameters")
    about = "about " if job.ends is not None else ""
    notify(f"{about}{recipe.steps:,} steps; Ctrl-C stops early and keeps the best weights")
    is_there = Path(options.out).exists()
    with (
        locked(Path(options.out)) if team.leads else contextlib.nullcontext(),
        Interrupts() as interrupts,
        _memory_errors(),
        Display(options, corpus.vocab, notify) if team.leads else contextlib.nullcontext() as display,
    ):

        def keep(weights: Weights, record: dict[str, Any]) -> None:
            if is_there and record["best_validation_loss"] > record["unigram_loss"]:
                return  # the existing model may be better
            write_checkpoint(options.out, weights, corpus.vocab, record)

        result = train(
            config,
            corpus,
            recipe,
            start=base.weights if base else None,
            state=state,
            resume=options.resume,
            team=team,
            threads=threads,
            seconds=None if job.ends is None else job.ends - time.monotonic(),
            watched=job.watched,
            report=display.report if display else _ignore,
            should_stop=_stop_check(interrupts, notify),
            keep=keep,
        )
        if not team.leads:
            return 0
        if display:
            display.close()
        say(f"{_ENDED[result.ended]} after {result.record['steps_done']:,} steps; "
            f"best at step {result.record['best_step']:,}")  # fmt: skip
        if result.ended == "diverged":
            say("the loss rose and did not recover; try lower learning rates")
        if result.ended == "interrupted":
            say("pass --resume to continue")
        code = {"done": 0, "early": 0, "interrupted": exit_code(), "diverged": 1}[result.ended]
        if is_there and (not result.is_evaluated or result.is_lost):
            reason = "there is no validation loss yet"
            if result.is_lost:
                reason = "the new weights are worse than character frequencies alone"
            say(f"{options.out} was not overwritten: {reason}")
            return code or 1
        digest = write_checkpoint(options.out, result.weights, corpus.vocab, result.record)
        say(f"saved {options.out}, {result.weights.n_parameters:,} parameters, digest {digest[:16]}")
        if not is_terminated():
            with interrupts.idle():
                _evaluate(options, job, result, team)
        if result.ended in ("done", "early"):
            state.unlink(missing_ok=True)
    return code


def _evaluate(options: argparse.Namespace, job: Job, result: TrainingResult, team: Team) -> None:
    """Evaluate the finished model, record the losses in its file and print them."""
    from knock.cli.ui.progress import ShareLine
    from knock.files.checkpoint import write_checkpoint
    from knock_training.evaluate import as_record, evaluate
    from knock_training.model import Twin

    seconds = _AFTER_INTERRUPT if result.ended == "interrupted" else job.closing_seconds
    twin = Twin(result.weights).to(team.device)
    with ShareLine("evaluated") as line:
        evaluation: dict[str, Loss] = evaluate(twin, job.corpus.validation, seconds=seconds, progress=line.show)
    record = result.record | {"evaluation": as_record(evaluation)}
    write_checkpoint(options.out, result.weights, job.corpus.vocab, record)
    for name, loss in evaluation.items():
        part = f", its first {loss.characters:,} characters" if loss.characters < len(job.corpus.validation) - 1 else ""
        say(f"validation, {name.replace('_', ' ')}: {loss}{part}")


_UNKNOWN_DONE = {"skip": "skipped", "replace": "replaced"}
_ENDED = {
    "done": "done",
    "early": "stopped early because the validation loss stopped falling,",
    "interrupted": "interrupted",
    "diverged": "diverged",
}


def _ignore(*_: Any) -> None:
    """Do nothing: the callback of processes that do not report."""


def _stop_check(interrupts: Interrupts, notify: Callable[[str], None]) -> Callable[[], bool]:
    """Return a function that says whether to stop before the next step, and notifies the user once."""
    has_notified = False

    def should_stop() -> bool:
        nonlocal has_notified
        if interrupts.asked and not has_notified:
            has_notified = True
            notify("\nstopping; press Ctrl-C again to stop without saving")
        return interrupts.asked

    return should_stop


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise PyTorch's out-of-memory `RuntimeError` as `MemoryError`."""
    try:
        yield
    except RuntimeError as error:
        if "alloc" not in str(error):
            raise
        raise MemoryError("PyTorch could not allocate the memory of a training step") from error
