"""Train a model on a text.

Progress goes to standard error. The weights with the best validation loss are kept in FILE as training goes on, and
the state of the run beside it in FILE.run, until the run is done: Ctrl-C ends it early, and --resume goes on with it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.interrupts import Interrupts
from knock.cli.options import UNKNOWN, whole_number
from knock.cli.terminal import printable, read_input, say
from knock.errors import ConfigError, KnockError, TrainingError, VocabError

if TYPE_CHECKING:
    from knock.checkpoint import Checkpoint
    from knock.config import ModelConfig
    from knock.weights import Weights
    from knock_training.data import Corpus
    from knock_training.recipe import Recipe
    from knock_training.team import Team

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
                        help="go on with the run that stopped before it was done, as it was planned")  # fmt: skip
    parser.add_argument("--size", choices=_SIZES, default="auto",
                        help="of the model: nano learns in minutes, small in an hour and better (default: what suits "
                             "the corpus)")  # fmt: skip
    parser.add_argument("--minutes", type=_minutes, metavar="M", help="plan as many steps as take so long here")
    parser.add_argument("--vocab-from", metavar="MODEL",
                        help="go on from a model, with its vocabulary and its shape")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="what to do with characters that MODEL does not know (default: error)")  # fmt: skip
    parser.add_argument("--lowercase", action="store_true", help="read upper-case letters as lower-case")
    parser.add_argument("--metrics", metavar="FILE", help="write losses and speed as lines of JSON")
    parser.add_argument("--tensorboard", metavar="FOLDER", help="write them for TensorBoard")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: a GPU, if there is one)")
    parser.add_argument(
        "--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads; with 1, runs repeat exactly"
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
    from knock.checkpoint import check_writable

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

    import torch

    from knock_training.team import Team

    if options.threads:
        torch.set_num_threads(options.threads)
    with Team.here(options.device) as team:
        return _train(options, team, base)


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
    from knock.checkpoint import read_checkpoint
    from knock.models import locate

    path = locate(options.vocab_from)
    if Path(options.out).exists() and path.samefile(options.out):
        options.error("--vocab-from and --out are the same file, which would be written over; choose another --out")
    base = read_checkpoint(path)
    if base.vocab is None:
        raise VocabError(f"{options.vocab_from!r} has no vocabulary to go on with; choose a model that has one")
    return base


def _train(options: argparse.Namespace, team: Team, base: Checkpoint | None) -> int:
    from knock.checkpoint import write_checkpoint
    from knock.cli.train_display import Display
    from knock.row_file import locked
    from knock.weights import shapes
    from knock_training.evaluate import as_record, evaluate
    from knock_training.model import Twin
    from knock_training.state import state_path
    from knock_training.trainer import sequence_length, train

    tell = say if team.leads else _silence
    if team.size > 1 and options.corpus == ["-"]:
        raise TrainingError("several processes cannot read one standard input; write the text to a file, and name that")
    state = state_path(options.out)
    if state.exists() and not options.resume:
        raise TrainingError(
            f"{str(state)!r} is the state of a run that is not done; --resume goes on with it; remove it to start anew"
        )
    corpus, config, recipe = _resumed(options, state, base) if options.resume else _begun(options, team, base)
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
    tell(f"{recipe.steps:,} steps; Ctrl-C stops early and keeps the best so far")
    is_there = Path(options.out).exists()
    if is_there and not options.resume:
        tell(f"{options.out} is there already; the first validation loss writes over it")
    with (
        locked(Path(options.out)) if team.leads else contextlib.nullcontext(),
        Interrupts() as interrupts,
        _told_when_too_large(),
        Display(options, corpus.vocab, tell) if team.leads else contextlib.nullcontext() as display,
    ):

        def keep(weights: Weights, record: dict[str, Any]) -> None:
            write_checkpoint(options.out, weights, corpus.vocab, record)

        result = train(
            config,
            corpus,
            recipe,
            start=base.weights if base else None,
            state=state,
            resume=options.resume,
            team=team,
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
            say("the loss was no longer a finite number; try smaller learning rates")
        if result.ended == "interrupted":
            say("--resume goes on with it")
        if not result.is_evaluated and is_there:
            say(f"{options.out} is left as it was: there is no validation loss yet")
            return 130
        digest = write_checkpoint(options.out, result.weights, corpus.vocab, result.record)
        say(f"saved {options.out}, {result.weights.n_parameters:,} parameters, digest {digest[:16]}")
        with interrupts.idle():
            evaluation = evaluate(Twin(result.weights).to(team.device), corpus.validation)
        record = result.record | {"evaluation": as_record(evaluation)}
        write_checkpoint(options.out, result.weights, corpus.vocab, record)
        if result.ended in ("done", "early"):
            state.unlink(missing_ok=True)
    for name, loss in evaluation.items():
        say(f"validation, {name.replace('_', ' ')}: {loss}")
    return {"done": 0, "early": 0, "interrupted": 130, "diverged": 1}[result.ended]


_UNKNOWN_TOLD = {"skip": "skipped", "replace": "replaced"}
_ENDED = {
    "done": "done",
    "early": "done early, the validation loss having ceased to fall,",
    "interrupted": "interrupted",
    "diverged": "diverged",
}


def _begun(options: argparse.Namespace, team: Team, base: Checkpoint | None) -> tuple[Corpus, ModelConfig, Recipe]:
    """What a new run is about."""
    from knock.config import ModelConfig
    from knock_training.optimizing import native_precision
    from knock_training.recipe import Recipe
    from knock_training.sizes import SIZES, size_for
    from knock_training.trainer import plan

    corpus = _read(options, base.vocab if base else None)
    size = SIZES[size_for(len(corpus)) if options.size == "auto" else options.size]
    if base is not None:
        config = base.weights.config
    else:
        config = ModelConfig(**{"vocab_size": corpus.vocab.vocab_size, **size.shape, **_given(options, _SHAPE)})
    recipe = Recipe(**{**size.recipe, "precision": native_precision(team.device), **_given(options, _RECIPE)})
    if options.minutes is not None:
        recipe = plan(config, corpus, recipe, options.minutes, vars(options).get("eval_interval"), team)
    return corpus, config, recipe


def _resumed(options: argparse.Namespace, state: Path, base: Checkpoint | None) -> tuple[Corpus, ModelConfig, Recipe]:
    """What the run to go on with is about, but for what is asked for otherwise, which `train` will refuse."""
    from knock.config import ModelConfig
    from knock.vocab import Vocab
    from knock_training.recipe import Recipe
    from knock_training.sizes import SIZES
    from knock_training.state import check_same, read_state

    what, _ = read_state(state)
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
    return corpus, ModelConfig(**{**what["config"], **size, **_given(options, _SHAPE)}), Recipe(**recipe)


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
