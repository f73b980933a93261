"""Train the shipped models and write their model cards.

    python -m training.shipped tinyshakespeare.txt teachers --into teachers --device cuda
    python -m training.shipped tinyshakespeare.txt shakespeare-nano --teachers teachers --into knock/models
    python -m training.shipped training/data/names.txt names --into knock/models

Teachers do not ship: others learn from them. On the CPU, training uses one thread, and the same machine and version of
PyTorch reproduce a model file exactly from the same teachers. A GPU takes minutes where a CPU takes hours, but does not
reproduce a file bit for bit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from knock.config import ModelConfig
from knock.errors import TrainingError
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.gpt import ReweightGPT
from knock.language_model import LanguageModel
from knock_training.data import Corpus
from knock_training.evaluate import as_record, evaluate
from knock_training.progress import Progress
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES
from knock_training.state import state_path
from knock_training.teaching import Teachers, Written, teach
from knock_training.team import Team
from knock_training.trainer import train
from training.cards import NAMES, Shipped, card
from training.copying import copying
from training.writing import written

TEACHER = {"dropout": 0.1, "matrix_learning_rate": 0.02, "eval_interval": 500, "precision": "bfloat16", "windows": 2}
NEAR = {
    "T": (2, 64, 64, 64, 64),
    "head_type": ("reweight", "hybrid", "hybrid", "hybrid", "hybrid"),
    "n_emb": 128,
    "nodes": 512,
    "n_blocks": 5,
    "n_heads": 4,
}
FAR = dict(SIZES["small"].shape)
SIX = {
    "T": (2, 32, 64, 64, 64, 512),
    "head_type": ("reweight", "hybrid", "hybrid", "hybrid", "hybrid", "content"),
    "n_emb": 160,
    "nodes": 640,
    "n_blocks": 6,
    "n_heads": 5,
}
BOTH = {**FAR, "head_type": NEAR["head_type"], "reweight_T": NEAR["T"]}


def _teacher(what: str, shape: dict[str, Any], steps: int = 4000, **recipe: Any) -> Shipped:
    return Shipped(f"a teacher {what}", shape, {**TEACHER, "steps": steps, **recipe}, "bfloat16")


TEACHERS = {
    "teacher-wide": _teacher(
        "that is wider", {**FAR, "n_emb": 192, "nodes": 768, "n_heads": 6}, 5000, seed=1, dropout=0.2
    ),
    "teacher-six": _teacher("of six blocks", SIX, 5000, seed=2, dropout=0.2),
    "teacher-near-1": _teacher("with short windows", NEAR, seed=3, windows=4),
    "teacher-near-2": _teacher("with short windows", NEAR, seed=4, windows=4, dropout=0.2),
    "teacher-far-1": _teacher("with a content block that sees 512 characters", FAR, seed=5),
    "teacher-far-2": _teacher("with a content block that sees 512 characters", FAR, seed=6, dropout=0.2),
    "teacher-far-3": _teacher("with a content block that sees 512 characters", FAR, seed=7, dropout=0.15),
    "teacher-both": _teacher("with a hybrid block that sees 512 characters", BOTH, seed=8, dropout=0.15),
}
STUDENT = {"eval_interval": 1000, "precision": "bfloat16", "distillation": 0.75}
EXAMPLE = {"T": 32, "n_emb": 64, "nodes": 64, "n_blocks": 3, "n_heads": 4}
MODELS = {
    "shakespeare-nano": Shipped(
        "the fastest, for its size the best",
        dict(SIZES["nano"].shape),
        {**STUDENT, "steps": 15_000, "batch_chars": 16_384, "learning_rate": 0.01},
        teachers=tuple(TEACHERS),
        written=0.5,
    ),
    "shakespeare-small": Shipped(
        "the default model, with the lowest loss of all shipped models",
        dict(SIZES["small"].shape),
        {**STUDENT, "steps": 5000, "matrix_learning_rate": 0.02, "windows": 2},
        "bfloat16",
        teachers=tuple(TEACHERS),
    ),
    "shakespeare-hybrid": Shipped(
        "the example shape, which the benchmarks use",
        EXAMPLE,
        {**STUDENT, "steps": 15_000, "batch_chars": 8192},
        teachers=tuple(TEACHERS),
        written=0.5,
    ),
    "shakespeare-classic": Shipped(
        "the example shape with absolute positions and a sliding window",
        {**EXAMPLE, "position": "absolute"},
        {**STUDENT, "steps": 15_000, "batch_chars": 8192},
        teachers=tuple(TEACHERS),
        written=0.75,
    ),
    "names": Shipped(
        "small and fast, for many new ones",
        {"head_type": "reweight", "T": 16, "n_emb": 64, "nodes": 112, "n_blocks": 4, "n_heads": 2},
        {"steps": 4000, "learning_rate": 0.01, "dropout": 0.15},
        "bfloat16",
        NAMES,
    ),
}
EVERY = {**TEACHERS, **MODELS}


def taught(model: Shipped, corpus: Corpus, folder: Path, device: torch.device) -> Teachers | None:
    """Return what the teachers of a model, in a folder, expect of its training data; None without any."""
    if not model.teachers:
        return None
    files = [(name, read_checkpoint(folder / f"{name}.safetensors")) for name in model.teachers]
    text = None
    if model.written:
        text = Written(written([file for _, file in files], corpus.vocab, seed=0), model.written)
    return teach(files, corpus.train, corpus.vocab, device, text)


def read(name: str, path: str) -> Corpus:
    """Read the corpus of a model."""
    model = EVERY[name]
    return Corpus.read(path, items=model.data.items, split=model.data.split(Recipe(**model.recipe).seed))


def make(name: str, corpus: Corpus, path: Path, teachers: Path, team: Team) -> None:
    """Train a model, resuming an interrupted run, and write the model file and its card.

    Args:
        name: name of the model.
        corpus: what it is trained on.
        path: where to write it.
        teachers: folder with its teachers.
        team: where to train it.
    """
    model, state = EVERY[name], state_path(path)

    def report(progress: Progress) -> None:
        if progress.validation_loss is not None:
            losses = f"loss {progress.loss:.4f}  validation {progress.validation_loss:.4f}"
            print(f"{name} {progress.step:,}/{progress.steps:,}  {losses}  {progress.seconds:.0f} s", flush=True)

    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **model.shape)
    result = train(
        config, corpus, Recipe(**model.recipe), state=state, resume=state.exists(), report=report,
        team=team, teachers=taught(model, corpus, teachers, team.device),
    )  # fmt: skip
    if result.ended != "done":
        raise TrainingError(f"the run of {name} ended as {result.ended!r} instead of 'done'; change its recipe")
    write_checkpoint(path, result.weights, corpus.vocab, result.record, stored=model.stored)
    measure(name, corpus, path)
    state.unlink()


def measure(name: str, corpus: Corpus, path: Path) -> None:
    """Measure the model of a file, as it is stored there, and write the figures into the file and its card."""
    checkpoint, vocab = read_checkpoint(path), corpus.vocab
    losses = as_record(evaluate(checkpoint.weights, corpus.validation, boundary=vocab.boundary))
    record = {**checkpoint.training, "evaluation": losses}
    if corpus.text.items is None:
        model = LanguageModel(ReweightGPT.from_weights(checkpoint.weights), vocab)
        texts = (vocab.decode(tokens.numpy()) for tokens in (corpus.train, corpus.validation))
        record["copying"] = copying(model, *texts)
    write_checkpoint(path, checkpoint.weights, vocab, record, stored=EVERY[name].stored)
    path.with_suffix(".md").write_text(card(name, path, EVERY[name]), encoding="utf-8")
    print(path, losses)


def main() -> None:
    """Train the models named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", help="path of the text that the models are trained on, as in their cards")
    parser.add_argument("names", nargs="+", choices=[*EVERY, "teachers"], help="models to train")
    parser.add_argument("--into", type=Path, default=Path(), help="folder to write to (default: the current one)")
    parser.add_argument(
        "--teachers", type=Path, default=Path(), help="folder with the teachers (default: the current one)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="measure the models again instead of training them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.into.mkdir(parents=True, exist_ok=True)
    names = [name for given in options.names for name in (TEACHERS if given == "teachers" else [given])]
    for name in names:
        corpus, path = read(name, options.corpus), options.into / f"{name}.safetensors"
        if options.measure:
            measure(name, corpus, path)
        else:
            with Team.here(options.device) as team:
                make(name, corpus, path, options.teachers, team)


if __name__ == "__main__":
    sys.exit(main())
