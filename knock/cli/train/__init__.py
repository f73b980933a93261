"""Train a model on a text.

Progress goes to standard error. During the run, FILE holds the weights with the best validation loss so far, and
FILE.run the state to resume from. Ctrl-C stops early; --resume continues.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.choices import HEAD_TYPES, UNKNOWN
from knock.cli.train.corpus import advice, facts, long_items
from knock.cli.train.job import RECIPE, SHAPE, Job, as_options, given, new_job, resumed_job, step_threads
from knock.cli.train.memory import memory_errors
from knock.cli.train.messages import Messages
from knock.cli.train.reading import add_reading_arguments, check_options, check_reading
from knock.cli.train.resuming import changed_conditions, check_is_unfinished, restore_conditions, resumption
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.options import add_force_argument, by_block, number, one_of, path_ending_in, whole_number
from knock.cli.ui.shape import head_types, sizes
from knock.cli.ui.terminal import is_stream, say
from knock.errors import ConfigError, TrainingError, VocabError, missing_package
from knock.models import SUFFIXES
from knock.words import counted

if TYPE_CHECKING:
    from knock.cli.train.resuming import State
    from knock.files.checkpoint import Checkpoint
    from knock.weights import Weights
    from knock_training.team import Team

EXAMPLES = """examples:
  knock train corpus.txt --out my.safetensors
  knock train corpus.txt --out my.safetensors --resume
  knock train books/ letters.txt --out my.safetensors --size small --minutes 60 --patience 5
  knock train names.txt --lines --out names.safetensors
  knock train customers.csv --column city --out cities.safetensors --minutes 2
  knock train poems.txt --out poems.safetensors --from shakespeare-small --minutes 5
  torchrun --nproc-per-node 2 -m knock_training corpus.txt --out my.safetensors
  knock generate --model my.safetensors
"""

_SIZES = ("auto", "nano", "small")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""

    def option(group: Any, name: str, type_: Any, metavar: str, help_: str, *short: str) -> None:
        group.add_argument(*short, name, type=type_, metavar=metavar, default=argparse.SUPPRESS, help=help_)

    count = whole_number(1)
    parser.add_argument("corpus", nargs="+", metavar="CORPUS",
                        help="UTF-8 text files, or folders of .txt files, joined in this order; - alone is standard "
                             "input. A tenth is held out for validation")  # fmt: skip
    parser.add_argument("-o", "--out", type=path_ending_in(*SUFFIXES), required=True, metavar="FILE",
                        help="write the model to FILE, ending in .safetensors or .npz")  # fmt: skip
    parser.add_argument("--resume", action="store_true",
                        help="resume an interrupted run with its original settings")  # fmt: skip
    add_force_argument(parser)
    parser.add_argument("--size", choices=_SIZES, default="auto",
                        help="model size: nano trains in minutes, small takes an hour and writes better (default: "
                             "chosen by corpus length and available time)")  # fmt: skip
    parser.add_argument("--minutes", type=_minutes, metavar="M",
                        help="train for M minutes, including loading and evaluation")  # fmt: skip
    parser.add_argument("--from", "--vocab-from", dest="vocab_from", metavar="MODEL",
                        help="start from the weights of MODEL, keeping its vocabulary and shape; the learning rates "
                             "are a tenth")  # fmt: skip
    parser.add_argument("--teacher", action="append", metavar="MODEL",
                        help="learn, besides the text, what MODEL expects after each character; repeat for the mean of "
                             "several. MODEL must know the characters of the corpus")  # fmt: skip
    add_reading_arguments(parser)
    parser.add_argument("--min-count", type=count, metavar="K",
                        help="leave out characters that occur fewer than K times, which makes the model of a text "
                             "with a large alphabet smaller; --unknown says how")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN,
                        help="how to handle characters that MODEL does not know or --min-count leaves out (default: "
                             "error; with --min-count: skip)")  # fmt: skip
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
    shape = parser.add_argument_group(
        "shape, overriding --size",
        "--T, --head-type and --reweight-T take one value, or one for each block, such as 2,32,32,512.",
    )
    option(shape, "--T", by_block(count), "N", "context window of a block, in characters")
    option(shape, "--n-emb", count, "N", "embedding width")
    option(shape, "--nodes", count, "N", "MLP width")
    option(shape, "--n-blocks", count, "N", "number of blocks")
    option(shape, "--n-heads", count, "N", "attention heads per block")
    option(shape, "--head-type", by_block(one_of(HEAD_TYPES)), "TYPE", "hybrid, reweight or content")
    option(shape, "--reweight-T", by_block(whole_number(0)), "N",
           "window of the reweight logits of hybrid heads (default: --T)")  # fmt: skip
    option(shape, "--position", str, "MODE", "relative or absolute (default: depends on --head-type)")
    option(shape, "--alpha", number, "X", "initial gate of hybrid heads, 0 to 1 (default: 0.5)")
    recipe = parser.add_argument_group("recipe, overriding --size")
    option(recipe, "--steps", count, "N", "optimiser steps")
    option(recipe, "--batch-chars", count, "N", "characters per step (default: 4096)")
    option(recipe, "--windows", count, "N", "length of a training sequence, in windows (default: 4)")
    option(recipe, "--optimizer", str, "NAME", "optimiser for the blocks' matrices: muon or adamw (default: muon)")
    option(recipe, "--learning-rate", number, "X", "peak learning rate of AdamW")
    option(recipe, "--matrix-learning-rate", number, "X", "peak learning rate of Muon")
    option(recipe, "--precision", str, "NAME",
           "float32 or bfloat16 for matrix products (default: bfloat16 if accelerated)")  # fmt: skip
    option(recipe, "--schedule", str, "NAME",
           "learning rate schedule: cosine, or wsd (constant, then decay) (default: cosine)")  # fmt: skip
    option(recipe, "--weight-decay", number, "X", "weight decay of matrices (default: 0.1)")
    option(recipe, "--ema", number, "X", "decay of the moving average of the weights; 0 disables it")
    option(recipe, "--dropout", number, "X", "dropout rate of embeddings, attention and MLP outputs")
    option(recipe, "--distillation", number, "X",
           "share of the loss that compares with the teachers, 0 to 1 (default: 0.5)")  # fmt: skip
    option(recipe, "--eval-interval", count, "N", "steps between evaluations (default: 250)")
    option(recipe, "--patience", count, "N", "stop after N evaluations without a lower validation loss")
    option(recipe, "--seed", whole_number(0, 2**64 - 1), "N", "seed of weights, batches and dropout (default: 42)",
           "-s")  # fmt: skip


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
    _check_settings(options)  # before PyTorch takes seconds to import
    check_writable(options.out)
    if "-" in options.corpus and len(options.corpus) > 1:
        options.error("- (standard input) must be the only CORPUS")
    if options.metrics is not None and Path(options.metrics) == Path(options.out):
        options.error("--metrics and --out name the same file; rename one of them")
    if options.vocab_from is not None and (options.lowercase or given(options, SHAPE)):
        options.error("--from keeps the model's vocabulary and shape; drop --lowercase and the shape options")
    check_options(options)
    if "distillation" in vars(options) and not options.teacher and not options.resume:
        options.error("--distillation is the teachers' share of the loss; pass --teacher MODEL, or drop it")
    if options.minutes is not None and "steps" in vars(options):
        options.error("--minutes sets the number of steps; drop --steps")
    base = None if options.vocab_from is None else _base_model(options)
    check_reading(options, base)
    _check_files(options, base)
    leads = os.environ.get("RANK", "0") == "0"  # as `Team.leads`, which needs PyTorch
    with Messages(say if leads else None) as messages:
        if "torch" not in sys.modules:
            messages.doing("loading PyTorch").say("loading PyTorch")
        import torch

        from knock_training.state import read_state, state_path
        from knock_training.team import Team

        saved = read_state(state_path(options.out)) if options.resume else None
        if saved is not None:
            restore_conditions(options, saved[1]["environment"])
        if options.threads:
            torch.set_num_threads(options.threads)
        with Team.here(options.device) as team, memory_errors():
            return _train(options, team, base, saved, started, messages)


def _check_files(options: argparse.Namespace, base: Checkpoint | None) -> None:
    """Reject output files that would overwrite existing ones, before any work is done."""
    from knock.files.corpus_files import check_readable
    from knock.files.output import check_free
    from knock_training.state import state_path

    if options.resume and options.force:
        options.error("--resume continues the run and --force overwrites it; give one of them")
    may_exist = options.resume or options.force
    inputs = [path for path in options.corpus if path != "-"]
    check_readable(inputs, every=options.item == "files" or options.resume or base is not None)  # reading is strict
    if options.validation not in (None, "end", "blocks"):
        check_readable([options.validation])
        inputs.append(options.validation)
    state = state_path(options.out)
    if options.resume:
        check_is_unfinished(Path(options.out), state)
    check_free(state, force=may_exist, problem="holds an unfinished run", resumable=True, inputs=inputs)
    check_free(options.out, force=may_exist, inputs=inputs)
    if options.metrics is not None and not is_stream(options.metrics):
        check_free(options.metrics, force=may_exist, inputs=[*inputs, options.out])


def _check_settings(options: argparse.Namespace) -> None:
    """Raise `ConfigError` if the recipe, or the shape for every size that could be chosen, is invalid."""
    from knock.config import ModelConfig
    from knock_training.recipe import Recipe
    from knock_training.sizes import SIZES

    Recipe(**given(options, RECIPE))
    if options.resume:
        return  # the run has a shape of its own
    errors = []
    for size in SIZES.values() if options.size == "auto" else [SIZES[options.size]]:
        try:
            ModelConfig(**{"vocab_size": 1, **size.shape, **given(options, SHAPE)})
        except ConfigError as error:
            errors.append(error)
        else:
            return
    raise as_options(errors[0])


def _base_model(options: argparse.Namespace) -> Checkpoint:
    """Read the model to fine-tune."""
    from knock.files.checkpoint import read_checkpoint
    from knock.models import locate

    path = locate(options.vocab_from)
    if Path(options.out).exists() and path.samefile(options.out):
        options.error("--from and --out name the same file; choose another --out")
    base = read_checkpoint(path)
    if base.vocab is None:
        raise VocabError(f"model {options.vocab_from!r} has no vocabulary; choose a model that has one")
    return base


def _train(
    options: argparse.Namespace,
    team: Team,
    base: Checkpoint | None,
    saved: State | None,
    started: float,
    messages: Messages,
) -> int:
    from knock.cli.train.closing import finish
    from knock.cli.train.display import Display
    from knock.engine.backends import compile_ahead
    from knock.files.checkpoint import write_checkpoint
    from knock.jobs.row_file import locked
    from knock.models import locate
    from knock_training.run import environment
    from knock_training.state import state_path
    from knock_training.trainer import train

    if team.size > 1 and options.corpus == ["-"]:
        raise TrainingError("several processes cannot share standard input; write the text to a file")
    state, threads = state_path(options.out), step_threads(options, team)
    messages.doing("reading the corpus")
    if saved is not None:
        job = resumed_job(options, state, saved, base, team, messages)
    else:
        job = new_job(options, team, base, threads, started, messages)
    _introduce(job, messages)
    if saved is None and base is None and (hint := advice(job.corpus, job.config)):
        messages.say(hint)
    if saved is not None:
        messages.say(resumption(saved[1], job.recipe.steps))
        if notice := changed_conditions(saved[1], environment(team, threads)):
            messages.say(notice)
    messages.doing("preparing the run")
    if team.leads:
        compile_ahead()  # the final evaluation needs the kernels, and so does the first text
    is_there = Path(options.out).exists()
    with (
        locked(Path(options.out)) if team.leads else contextlib.nullcontext(),
        Interrupts() as interrupts,
        Display(options, job.corpus.vocab, messages) if team.leads else contextlib.nullcontext() as display,
    ):

        def keep(weights: Weights, record: dict[str, Any]) -> None:
            if is_there and record["best_validation_loss"] > record["unigram_loss"]:
                return  # the existing model may be better
            write_checkpoint(options.out, weights, job.corpus.vocab, record)

        result = train(
            job.config,
            job.corpus,
            job.recipe,
            start=base.weights if base else None,
            origin={"name": locate(options.vocab_from).stem, "digest": base.digest} if base else None,
            state=state,
            resume=options.resume,
            team=team,
            teachers=job.teachers,
            threads=threads,
            seconds=None if job.ends is None else job.ends - time.monotonic(),
            watched=job.watched,
            report=display.report if display else _ignore,
            begun=_start_report(options, messages),
            doing=display.doing if display else _ignore,
            should_stop=_stop_check(interrupts, messages.say),
            keep=keep,
        )
        if display is None:
            return 0
        display.close()
        return finish(options, job, result, state, is_there=is_there, interrupts=interrupts, messages=messages)


def _introduce(job: Job, messages: Messages) -> None:
    """Print what the run is about: its corpus, shape and length."""
    from knock.weights import shapes
    from knock_training.run import sequence_length

    corpus, config, recipe = job.corpus, job.config, job.recipe
    length = sequence_length(config, corpus, recipe)
    for line in facts(corpus, length):
        messages.say(line)
    size = sum(math.prod(shape) for shape in shapes(config).values())
    messages.say(f"{head_types(config)} heads, {config.position} positions, {sizes(config)}, {size:,} parameters")
    if notice := long_items(corpus, config):
        messages.say(notice)
    about = "about " if job.ends is not None else ""
    messages.say(f"{about}{counted(recipe.steps, 'step')}; Ctrl-C stops early and keeps the best weights")


def _start_report(options: argparse.Namespace, messages: Messages) -> Callable[[float], None]:
    """Return a function that prints the validation loss of the model that the run starts from."""

    def begun(validation_loss: float) -> None:
        messages.say(
            f"starting from {options.vocab_from}: validation {validation_loss:.4f} nats/char; no worse weights are kept"
        )

    return begun


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
