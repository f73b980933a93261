"""List the models by name: size, loss, where they are.

These are the models that ship with knock and, with FOLDER, the model files in that folder. The loss is the one that
training measured on held-out text, in nats per character; it compares models of the same text only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.options import add_precision_argument
from knock.cli.ui.terminal import columns, printable, say, wrapped, write
from knock.models import DEFAULT, SUFFIXES, shipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knock.choices import Precision

EXAMPLES = """examples:
  knock models
  knock models runs --measure
  knock models --json
"""

_MEASURED = 2000  # characters
_REPEATS = 3
_PREFERRED = "block_256"  # of several losses


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of the list.

    Attributes:
        name: What it is called on the command line: the name of a shipped model, or a path.
        path: The model file.
        parameters: Number of parameters.
        losses: Validation losses by name, in nats per character; may be empty.
        characters_per_second: Measured speed; None if it was not measured.
    """

    name: str
    path: str
    parameters: int
    losses: Mapping[str, float]
    characters_per_second: float | None

    @property
    def loss(self) -> float | None:
        """The validation loss that is shown, if there is one."""
        return self.losses.get(_PREFERRED, next(iter(self.losses.values()), None))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="also list the model files in this folder")
    parser.add_argument("--measure", action="store_true",
                        help=f"measure the speed on this machine, with {_MEASURED:,} characters of each")  # fmt: skip
    add_precision_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per model")


def run(options: argparse.Namespace) -> int:
    """Print the list."""
    files = shipped()
    in_folder = {} if options.folder is None else _files(options.folder)
    measured = options.precision if options.measure else None
    own = list(_rows(files, measured))
    others = list(_rows(in_folder, measured))
    if options.json:
        import json

        for row in own + others:
            write(json.dumps(asdict(row)) + "\n")
        return 0
    _print(f"shipped with knock, in {Path(next(iter(files.values()))).parent}" if files else "", own)
    if options.folder is not None:
        write("\n")
        _print(f"in {options.folder}", others)
    if DEFAULT in files:
        write(f"\ndefault: {DEFAULT}\n")
    write("loss: nats/char on held-out text\n")
    return 0


def _files(folder: str) -> dict[str, Path]:
    """Return the model files in a folder, by path.

    Raises:
        CheckpointError: if it is not a folder, or cannot be read.
    """
    from knock.errors import CheckpointError

    try:
        if not Path(folder).is_dir():
            what = "a file" if Path(folder).exists() else "not there"
            raise CheckpointError(f"the folder {folder!r} is {what}; pass the folder that holds the model files")
        found = sorted(path for path in Path(folder).iterdir() if path.suffix in SUFFIXES and path.is_file())
    except (OSError, ValueError) as error:  # no access, or NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise CheckpointError(f"cannot read the folder {folder[:60]!r}: {reason}; pass another folder") from error
    return {str(path): path for path in found}


def _rows(files: Mapping[str, Path], measured: Precision | None) -> Iterator[Row]:
    """Read the model files; what is not a valid one is reported and left out.

    Args:
        files: the files, by name.
        measured: precision in which to measure their speed; None if it is not measured.
    """
    from knock.errors import CheckpointError
    from knock.files.checkpoint import read_checkpoint

    for name, path in files.items():
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            say(f"knock: {printable(str(error))}")
            continue
        has_text = checkpoint.vocab is not None
        yield Row(
            name=name,
            path=str(path.absolute()),
            parameters=checkpoint.weights.n_parameters,
            losses=_losses(checkpoint.training),
            characters_per_second=_speed(path, measured) if measured is not None and has_text else None,
        )


def _losses(training: Mapping[str, Any]) -> dict[str, float]:
    """Return the losses of a training record; other programs may have written another kind of record."""
    evaluation = training.get("evaluation")
    if not isinstance(evaluation, dict):
        return {}
    losses = {name: each.get("nats_per_char") for name, each in evaluation.items() if isinstance(each, dict)}
    return {name: float(loss) for name, loss in losses.items() if isinstance(loss, int | float)}


def _speed(path: Path, precision: Precision) -> float:
    """Return the characters per second of one text, in the best of a few runs."""
    import time

    from knock.language_model import load

    model = load(path, precision=precision)
    at_least = _MEASURED if model.vocab.has_boundary else 0  # items are too short to measure
    model.generate(max_new_tokens=_MEASURED + 1, min_length=at_least, seed=0)  # compiles and loads what it needs
    seconds = []
    for seed in range(_REPEATS):
        start = time.perf_counter()
        generated = model.generate(max_new_tokens=_MEASURED + 1, min_length=at_least, seed=seed)
        seconds.append((time.perf_counter() - start) / max(1, len(generated.text)))
    return round(1 / min(seconds), 1)


def _print(title: str, rows: list[Row]) -> None:
    """Print a table; a name is on a line of its own where the table would be wider than the terminal."""
    write(wrapped(printable(title), columns()) + "\n")
    if not rows:
        write("no model files\n")
        return
    speeds = any(row.characters_per_second for row in rows)
    header = ["parameters", "loss", *["characters/s"] * speeds]
    names = [printable(Path(row.name).name) for row in rows]
    cells = [
        [
            f"{row.parameters:,}",
            "-" if row.loss is None else f"{row.loss:.4f}",
            *["-" if row.characters_per_second is None else f"{row.characters_per_second:,.0f}"] * speeds,
        ]
        for row in rows
    ]
    sizes = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    widest = max(len(name) for name in ("name", *names))
    is_narrow = widest + sum(2 + size for size in sizes) > columns()
    for name, row in zip(("name", *names), (header, *cells), strict=True):
        line = "".join(f"  {cell:>{size}}" for cell, size in zip(row, sizes, strict=True))
        write(f"{name}\n{line}\n" if is_narrow else f"{name:<{widest}}{line}\n")
