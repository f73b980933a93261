"""Train a model on a text.

Progress goes to standard error. The weights with the best validation loss are kept in FILE as training goes on, and
the state of the run beside it in FILE.run, until the run is done: Ctrl-C ends it early, and --resume continues it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.choices import UNKNOWN
from knock.cli.ui.interrupts import Interrupts, exit_code, is_terminated
from knock.cli.ui.options import add_force_argument, whole_number
from knock.cli.ui.terminal import is_stream, printable, read_input, say
from knock.errors import ConfigError, KnockError, TrainingError, VocabError

if TYPE_CHECKING:
    from knock.config import ModelConfig
    from knock.files.checkpoint import Checkpoint
    from knock.weights import Weights
    from knock_training.data import Corpus
    from knock_training.evaluate import Loss
    from knock_training.planning import Plan
    from knock_training.recipe import Recipe
    from knock_training.team import Team
    from knock_training.threads import Threads
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

_SHAPE = ("T", "n_emb", "nodes", "n_blocks", "n_heads", "head_type", "position", "alpha")
_RECIPE = (
    "steps", "batch_chars", "windows", "optimizer", "learning_rate", "matrix_learning_rate", "schedule", "weight_decay",
    "ema", "dropout", "precision", "eval_interval", "patience", "seed",
)  # fmt: skip
_TINY = 20_000  # characters
_SIZES = ("auto", "nano", "small")
_SMALLEST = "nano"
_AFTER_INTERRUPT = 10.0  # seconds for the evaluation of a run that was interrupted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""

    def option(group: Any, name: str, type_: Any, metavar: str, help_: str) -> None:
        group.add_argument(name, type=type_, metavar=metavar, default=argparse.SUPPRESS, help=help_)

    count = whole_number(1)
    parser.add_argument("corpus", nargs="+", metavar="CORPUS",
                        help="UTF-8 texts, one after the other; of a folder, its .txt files; - alone is standard "
                             "input. The last 10%% of all are for validation")  # fmt: skip
    parser.add_argument("--out", required=True, metavar="FILE",
                        help="where the model goes, a .safetensors or .npz file")  # fmt: skip
    parser.add_argument("--resume", action="store_true",
                        help="continue the run that stopped before it was done, as it was planned")  # fmt: skip
    add_force_argument(parser)
    parser.add_argument("--size", choices=_SIZES, default="auto",
                        help="of the model: nano learns in minutes, small in an hour and better (default: what suits "
                             "the corpus and the time)")  # fmt: skip
    parser.add_argument("--minutes", type=_minutes, metavar="M", help="train for M minutes, everything included")
    parser.add_argument("--vocab-from", metavar="MODEL",
                        help="go on from a model, with its vocabulary and its shape")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="what to do with characters that MODEL does not know (default: error)")  # fmt: skip
    parser.add_argument("--lowercase", action="store_true", help="read upper-case letters as lower-case")
    parser.add_argument("--metrics", metavar="FILE", help="write losses and speed as lines of JSON")
    parser.add_argument("--tensorboard", metavar="FOLDER", help="write them for TensorBoard")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: a GPU, if there is one)")
    parser.add_argument(
        "--threads",
        type=whole_number(1, 1024),
        metavar="N",
        help="CPU threads; with 1, runs repeat exactly (default: as many as are fastest, timed now and then)",
    )
    shape = parser.add_argument_group("shape, instead of that of --size")
    option(shape, "--T", count, "N", "context window of one layer")
    option(shape, "--n-emb", count, "N", "embedding width")
    option(shape, "--nodes", count, "N", "width of the MLP")
    option(shape, "--n-blocks", count, "N", "blocks")
    option(shape, "--n-heads", count, "N", "attention heads a block")
    option(shape, "--head-type", str, "TYPE", "hybrid, reweight or content")
    option(shape, "--position", str, "MODE", "relative or absolute (default: what suits the heads)")
    option(shape, "--alpha", float, "X", "where the hybrid heads' gates start, 0 to 1 (default: 0.5)")
    recipe = parser.add_argument_group("recipe, instead of that of --size")
    option(recipe, "--steps", count, "N", "optimiser steps")
    option(recipe, "--batch-chars", count, "N", "characters a step (default: 4096)")
    option(recipe, "--windows", count, "N", "length of a training sequence, in windows of T (default: 4)")
    option(recipe, "--optimizer", str, "NAME", "of the matrices in blocks: muon or adamw (default: muon)")
    option(recipe, "--learning-rate", float, "X", "largest of AdamW")
    option(recipe, "--matrix-learning-rate", float, "X", "largest of Muon")
    option(recipe, "--precision", str, "NAME",
           "of products, float32 or bfloat16 (default: bfloat16 where the processor is made for it)")  # fmt: skip
    option(recipe, "--schedule", str, "NAME", "cosine, or wsd: constant, then falling (default: cosine)")
    option(recipe, "--weight-decay", float, "X", "of matrices (default: 0.1)")
    option(recipe, "--ema", float, "X", "how much of the running average of the weights stays at a step, 0 for none")
    option(recipe, "--dropout", float, "X", "share that is dropped of what embeddings, attention and MLP write")
    option(recipe, "--eval-interval", count, "N", "steps between validation losses (default: 250)")
    option(recipe, "--patience", count, "N", "stop after so many validation losses without a lower one")
    option(recipe, "--seed", whole_number(0, 2**64 - 1), "N", "of weights, batches and dropout (default: 42)")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number of minutes above 0, got {text!r}")
    return value


def run(options: argparse.Namespace) -> int:
    """Train, save, evaluate, report."""
    if importlib.util.find_spec("torch") is None:
        raise KnockError("training needs PyTorch, which is not installed; run: pip install 'knock-lm[train]'")
    from knock.files.checkpoint import check_writable

    started = time.monotonic()
    _check_shape(options)  # before the wait for PyTorch
    check_writable(options.out)
    if "-" in options.corpus and len(options.corpus) > 1:
        options.error("- is standard input only where it is the only CORPUS")
    if options.metrics is not None and Path(options.metrics) == Path(options.out):
        options.error("--metrics and --out are the same file; choose another name for one of them")
    if options.vocab_from is not None and (options.lowercase or _given(options, _SHAPE)):
        options.error("--vocab-from goes on with the model's vocabulary and shape; leave --lowercase and shapes out")
    if options.minutes is not None and "steps" in vars(options):
        options.error("--minutes plans the steps; leave --steps out")
    base = None if options.vocab_from is None else _base(options)
    _check_files(options)

    import torch

    from knock_training.team import Team

    if options.threads:
        torch.set_num_threads(options.threads)
    with Team.here(options.device) as team:
        return _train(options, team, base, started)


def _check_files(options: argparse.Namespace) -> None:
    """Complain about files that would be overwritten, before there is work."""
    from knock.files.output import check_free
    from knock_training.state import state_path

    if options.resume and options.force:
        options.error("--resume continues the run and --force overwrites it; give one of them")
    may = options.resume or options.force
    inputs = [path for path in options.corpus if path != "-"]
    check_free(state_path(options.out), force=may, problem="holds an unfinished run", resumable=True, inputs=inputs)
    check_free(options.out, force=may, inputs=inputs)
    if options.metrics is not None and not is_stream(options.metrics):
        check_free(options.metrics, force=may, inputs=[*inputs, options.out])


def _check_shape(options: argparse.Namespace) -> None:
    """Complain about a shape that fits no size that the model may come to have."""
    from knock.config import ModelConfig
    from knock_training.sizes import SIZES

    errors = []
    for size in SIZES.values() if options.size == "auto" else [SIZES[options.size]]:
        try:
            ModelConfig(**{"vocab_size": 1, **size.shape, **_given(options, _SHAPE)})
        except ConfigError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _base(options: argparse.Namespace) -> Checkpoint:
    """The model to go on from."""
    from knock.files.checkpoint import read_checkpoint
    from knock.models import locate

    path = locate(options.vocab_from)
    if Path(options.out).exists() and path.samefile(options.out):
        options.error("--vocab-from and --out are the same file, which would be written over; choose another --out")
    base = read_checkpoint(path)
    if base.vocab is None:
        raise VocabError(f"{options.vocab_from!r} has no vocabulary to go on with; choose a model that has one")
    return base


def _train(options: argparse.Namespace, team: Team, base: Checkpoint | None, started: float) -> int:
    from knock.cli.train.display import Display
    from knock.files.checkpoint import write_checkpoint
    from knock.jobs.row_file import locked
    from knock.weights import shapes
    from knock_training.run import sequence_length
    from knock_training.state import state_path
    from knock_training.trainer import train

    tell = say if team.leads else _silence
    if team.size > 1 and options.corpus == ["-"]:
        raise TrainingError("several processes cannot read one standard input; write the text to a file, and name that")
    state, threads = state_path(options.out), _threads(options, team)
    job = _resumed(options, state, base) if options.resume else _begun(options, team, base, threads, started, tell)
    corpus, config, recipe = job.corpus, job.config, job.recipe
    length = sequence_length(config, corpus, recipe)
    name = printable(corpus.name)
    tell(f"{name}: {len(corpus):,} characters, {corpus.vocab.vocab_size} distinct, in sequences of {length}")
    if corpus.unknown_count:
        share = corpus.unknown_count / (len(corpus) + (corpus.unknown_count if corpus.unknown == "skip" else 0))
        tell(f"{_UNKNOWN_TOLD[corpus.unknown]} unknown characters: {corpus.unknown_count:,}, {share:.2%} of the text")
    if len(corpus) < _TINY:
        tell(f"that is little: a model learns it by heart. Some {5 * _TINY:,} characters are a start")
    size = sum(math.prod(shape) for shape in shapes(config).values())
    told = " ".join(f"{name}={getattr(config, name)}" for name in _SHAPE[:5])
    tell(f"{config.head_type} heads, {config.position} positions, {told}, {size:,} parameters")
    about = "about " if job.ends is not None else ""
    tell(f"{about}{recipe.steps:,} steps; Ctrl-C stops early and keeps the best so far")
    is_there = Path(options.out).exists()
    with (
        locked(Path(options.out)) if team.leads else contextlib.nullcontext(),
        Interrupts() as interrupts,
        _told_when_too_large(),
        Display(options, corpus.vocab, tell) if team.leads else contextlib.nullcontext() as display,
    ):

        def keep(weights: Weights, record: dict[str, Any]) -> None:
            if is_there and record["best_validation_loss"] > record["unigram_loss"]:
                return  # what is there may be better
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
            report=display.report if display else _silence,
            should_stop=_said_once(interrupts, tell),
            keep=keep,
        )
        if not team.leads:
            return 0
        if display:
            display.close()
        say(f"{_ENDED[result.ended]} after {result.record['steps_done']:,} steps; "
            f"best at step {result.record['best_step']:,}")  # fmt: skip
        if result.ended == "diverged":
            say("the loss rose and did not recover; try smaller learning rates")
        if result.ended == "interrupted":
            say("--resume continues it")
        code = {"done": 0, "early": 0, "interrupted": exit_code(), "diverged": 1}[result.ended]
        if is_there and (not result.is_evaluated or result.is_lost):
            reason = "there is no validation loss yet"
            if result.is_lost:
                reason = "the new weights predict worse than the characters' frequencies alone"
            say(f"{options.out} is left as it was: {reason}")
            return code or 1
        digest = write_checkpoint(options.out, result.weights, corpus.vocab, result.record)
        say(f"saved {options.out}, {result.weights.n_parameters:,} parameters, digest {digest[:16]}")
        if not is_terminated():
            with interrupts.idle():
                _evaluate(options, job, result, team)
        if result.ended in ("done", "early"):
            state.unlink(missing_ok=True)
    return code


def _evaluate(options: argparse.Namespace, job: _Job, result: TrainingResult, team: Team) -> None:
    """Evaluate the finished model, add what was found to its file, and report it."""
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


_UNKNOWN_TOLD = {"skip": "skipped", "replace": "replaced"}
_ENDED = {
    "done": "done",
    "early": "done early, the validation loss having ceased to fall,",
    "interrupted": "interrupted",
    "diverged": "diverged",
}


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a run is about.

    Attributes:
        corpus: the text.
        config: the model's shape.
        recipe: how to train.
        ends: when its steps have to be done, by `time.monotonic`; None without a limit.
        watched: validation blocks of an evaluation.
        closing_seconds: time for the evaluation at the end; None without a limit.
    """

    corpus: Corpus
    config: ModelConfig
    recipe: Recipe
    ends: float | None
    watched: int
    closing_seconds: float | None


def _threads(options: argparse.Namespace, team: Team) -> Threads | None:
    """What chooses the CPU threads of a step; None where the user has chosen, or it does not matter."""
    import torch

    from knock.cpus import available_threads
    from knock_training.threads import Threads

    if options.threads or team.size > 1 or team.device.type != "cpu":
        return None
    return Threads(min(available_threads(), torch.get_num_threads()))  # the latter follows OMP_NUM_THREADS


def _begun(
    options: argparse.Namespace,
    team: Team,
    base: Checkpoint | None,
    threads: Threads | None,
    started: float,
    tell: Callable[[str], None],
) -> _Job:
    """What a new run is about."""
    from knock_training.run import WATCHED_BLOCKS
    from knock_training.sizes import size_for

    corpus = _read(options, base.vocab if base else None)
    names = [size_for(len(corpus))] if options.size == "auto" else [options.size]
    if options.minutes is None:
        config, recipe = _shape_and_recipe(options, names[0], corpus, team, base)
        return _Job(
            corpus=corpus, config=config, recipe=recipe, ends=None, watched=WATCHED_BLOCKS, closing_seconds=None
        )
    return _planned(options, names, corpus, team, base, threads, started, tell)


def _planned(
    options: argparse.Namespace,
    names: list[str],
    corpus: Corpus,
    team: Team,
    base: Checkpoint | None,
    threads: Threads | None,
    started: float,
    tell: Callable[[str], None],
) -> _Job:
    """A new run of so many minutes, of the largest size that has time to learn.

    Raises:
        TrainingError: if there is time for too few steps; it says what would fit.
    """
    from knock_training.planning import LEAST_STEPS, plan
    from knock_training.sizes import SIZES

    ends = started + 60 * options.minutes

    def plan_for(name: str) -> tuple[ModelConfig, Plan]:
        config, recipe = _shape_and_recipe(options, name, corpus, team, base)
        interval = vars(options).get("eval_interval")
        left = ends - time.monotonic()
        return config, plan(config, corpus, recipe, left, eval_interval=interval, team=team, threads=threads)

    name = names[0]
    config, planned = plan_for(name)
    enough = SIZES[name].recipe["steps"] // 2 if name != _SMALLEST else LEAST_STEPS
    if options.size == "auto" and name != _SMALLEST and planned.steps < enough:
        tell(f"--minutes {options.minutes:g} is time for {planned.steps:,} steps of a model of the size {name}, which "
             f"needs some {enough:,}: training {_SMALLEST}, unless --size {name} is given")  # fmt: skip
        name = _SMALLEST
        config, planned = plan_for(name)
    if planned.steps < LEAST_STEPS:
        minutes = (time.monotonic() - started) / 60 + planned.minutes_for(LEAST_STEPS)
        fits = [f"--minutes {_rounded_up(minutes):g}"]
        if name != _SMALLEST and base is None:
            smaller = plan_for(_SMALLEST)[1].steps
            fits += [f"--size {_SMALLEST}, of which there is time for {smaller:,} steps"] * (smaller >= LEAST_STEPS)
        raise TrainingError(
            f"--minutes {options.minutes:g} is time for {planned.steps} steps of this model here, and with fewer than "
            f"{LEAST_STEPS} it learns too little; give {' or '.join(fits)}"
        )
    return _Job(
        corpus=corpus,
        config=config,
        recipe=planned.recipe,
        ends=ends - planned.closing_seconds,
        watched=planned.watched,
        closing_seconds=planned.closing_seconds,
    )


def _rounded_up(minutes: float) -> float:
    """Minutes to two digits, no fewer than they are."""
    unit = 10.0 ** (math.floor(math.log10(minutes)) - 1)
    return math.ceil(minutes / unit) * unit


def _shape_and_recipe(
    options: argparse.Namespace, size: str, corpus: Corpus, team: Team, base: Checkpoint | None
) -> tuple[ModelConfig, Recipe]:
    """Those of a size, with what the options change."""
    from knock.config import ModelConfig
    from knock_training.optimizing import native_precision
    from knock_training.recipe import Recipe
    from knock_training.sizes import SIZES

    known = SIZES[size]
    if base is not None:
        config = base.weights.config
    else:
        config = ModelConfig(**{"vocab_size": corpus.vocab.vocab_size, **known.shape, **_given(options, _SHAPE)})
    return config, Recipe(**{**known.recipe, "precision": native_precision(team.device), **_given(options, _RECIPE)})


def _resumed(options: argparse.Namespace, state: Path, base: Checkpoint | None) -> _Job:
    """What the run to continue is about, but for what is asked for otherwise, which `train` will reject."""
    from knock.config import ModelConfig
    from knock.vocab import Vocab
    from knock_training.recipe import Recipe
    from knock_training.run import WATCHED_BLOCKS
    from knock_training.sizes import SIZES
    from knock_training.state import check_same, read_state

    what, saved = read_state(state)
    vocab = Vocab.from_json(what["vocabulary"], lowercase=what["lowercase"])
    if options.lowercase:
        check_same({"lowercase": vocab.lowercase}, {"lowercase": True}, str(state))
    if base is not None:
        assert base.vocab is not None
        before, now = {"vocabulary": vocab.to_json()}, {"vocabulary": base.vocab.to_json()}
        check_same({**before, **what["config"]}, {**now, **base.weights.config.to_dict()}, str(state))
    options.unknown = what["unknown"]
    try:
        corpus = _read(options, vocab)
    except VocabError as error:
        raise TrainingError(f"{str(state)!r} is of a run on another corpus: {error}") from error
    recipe = what["recipe"] | {"betas": tuple(what["recipe"]["betas"])} | _given(options, _RECIPE)
    size = {} if options.size == "auto" or base is not None else SIZES[options.size].shape
    left = saved["numbers"]["seconds_left"]
    return _Job(
        corpus=corpus,
        config=ModelConfig(**{**what["config"], **size, **_given(options, _SHAPE)}),
        recipe=Recipe(**recipe),
        ends=None if left is None else time.monotonic() + left,
        watched=WATCHED_BLOCKS,  # `train` takes both from the state
        closing_seconds=None,
    )


def _read(options: argparse.Namespace, vocab: Any) -> Corpus:
    from knock_training.data import Corpus

    if options.corpus == ["-"]:
        return Corpus.from_text(
            read_input(), "standard input", vocab=vocab, lowercase=options.lowercase, unknown=options.unknown
        )
    return Corpus.read(options.corpus, vocab=vocab, lowercase=options.lowercase, unknown=options.unknown)


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    given = vars(options)
    return {name: given[name] for name in names if name in given}


def _silence(*_: Any) -> None:
    """Say nothing."""


def _said_once(interrupts: Interrupts, tell: Callable[[str], None]) -> Callable[[], bool]:
    """Whether to stop, asked before every step; says so the first time."""
    has_said = False

    def should_stop() -> bool:
        nonlocal has_said
        if interrupts.asked and not has_said:
            has_said = True
            tell("\nstopping; Ctrl-C again to stop without saving")
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
