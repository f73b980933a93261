"""Show what a model file contains: shape, size, vocabulary, training record, losses."""

from __future__ import annotations

import argparse
import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.cli.ui.shape import sizes
from knock.cli.ui.terminal import columns, is_wrapped, printable, write
from knock.errors import SchemaError
from knock.models import DEFAULT, locate, shipped
from knock.validation import on_circles
from knock.words import counted

if TYPE_CHECKING:
    from knock.config import ModelConfig
    from knock.files.checkpoint import Checkpoint
    from knock.vocab import Vocab

EXAMPLES = """examples:
  knock info
  knock info my.safetensors
  knock info my.safetensors --json
  knock info customers.safetensors --schema > schema.json
"""

_FIRST = {"name": 0, "kind": 1, "type": 2, "min": 3, "min_length": 3}  # places of a column's first fields
_LABEL = 16  # columns, with the space after it
_CHARACTERS = 200  # of a vocabulary, or ranges of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", nargs="?", default=DEFAULT, metavar="MODEL",
                        help=f"a shipped model, a file or a folder (default: {DEFAULT})")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--schema", action="store_true",
                        help="print only the schema of the table whose rows the model writes, as JSON to edit for "
                             "knock sample --schema")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print one fact per line; on a terminal, facts that are too long for a line are wrapped."""
    from knock.files.checkpoint import read_checkpoint

    path = locate(options.model)
    checkpoint = read_checkpoint(path)
    if options.schema:
        schema = checkpoint.training.get("schema")
        if schema is None:
            raise SchemaError(
                f"{options.model!r} has no schema: it was not trained on the rows of a table, with --rows"
            )
        write(_to_edit(schema))
        return 0
    if options.json:
        write(json.dumps(_object(path, checkpoint), ensure_ascii=False) + "\n")
        return 0
    for label, fact in _facts(path, checkpoint):
        line = f"{label:<{_LABEL}}{printable(fact)}"
        if is_wrapped() and label not in ("file", "digest"):  # they are copied whole; a path may have spaces
            line = textwrap.fill(
                line, max(columns(), 2 * _LABEL), subsequent_indent=" " * _LABEL,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        write(line + "\n")
    return 0


def _to_edit(schema: Mapping[str, Any]) -> str:
    """Return a schema as JSON with a line for each column, which begins with its name and its kind."""
    from knock.generation.constraints.schema import check

    try:
        check(schema)
    except SchemaError:  # not written by knock: show it as it is
        return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"

    def line(content: Any) -> str:
        return json.dumps(content, ensure_ascii=False)

    columns = [
        line({name: column[name] for name in sorted(column, key=lambda name: (_FIRST.get(name, 9), name))})
        for column in schema["columns"]
    ]
    others = [f"  {line(name)}: {line(value)},\n" for name, value in schema.items() if name != "columns"]
    return "{\n" + "".join(others) + '  "columns": [\n    ' + ",\n    ".join(columns) + "\n  ]\n}\n"


def _object(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the file contains as a JSON object, the training record as it is saved."""
    weights, vocab = checkpoint.weights, checkpoint.vocab
    characters = None
    if vocab is not None:
        characters = {
            "characters": "".join(vocab.characters),
            "lowercase": vocab.lowercase,
            "has_boundary": vocab.has_boundary,
        }
    return {
        "name": path.stem,
        "path": str(path),
        "is_shipped": path in shipped().values(),
        "bytes": path.stat().st_size,
        "digest": checkpoint.digest,
        "config": weights.config.to_dict(),
        "parameters": weights.n_parameters,
        "receptive_field": weights.config.receptive_field,
        "vocabulary": characters,
        "training": checkpoint.training,
    }


def _facts(path: Path, checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    weights, vocab = checkpoint.weights, checkpoint.vocab
    config = weights.config
    yield "model", path.stem + (" (ships with knock)" if path in shipped().values() else "")
    yield "file", str(path)
    yield "size", f"{path.stat().st_size:,} bytes"
    yield "digest", checkpoint.digest
    yield "heads", f"{', '.join(dict.fromkeys(config.head_types))}, {config.position} positions"
    yield "shape", sizes(config)
    if not config.is_uniform:
        yield from _blocks(config)
    yield "parameters", f"{weights.n_parameters:,}"
    yield "receptive field", f"{config.receptive_field:,} characters"
    if vocab is None:
        yield "vocabulary", f"{config.vocab_size:,} tokens without characters"
    else:
        case = "; upper case is read as lower case" if vocab.lowercase else ""
        yield "vocabulary", f"{len(vocab.characters):,} characters: {_characters(vocab)}{case}"
    if vocab is not None and vocab.has_boundary:
        yield "items", "the model knows where an item begins and ends"
    record = {name: value for name, value in checkpoint.training.items() if name != "schema"}
    try:
        facts = list(_training_facts(record)) if record else [("training", "no record in the file")]
    except (KeyError, TypeError, ValueError, AttributeError):  # not written by knock: show it as it is
        facts = [("training", json.dumps(record))]
    yield from facts
    if "schema" in checkpoint.training:
        yield from _schema_facts(checkpoint.training["schema"])


def _blocks(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield the windows and head types by block; successive blocks that are alike share a line."""
    last = 0
    for block, alike in itertools.groupby(config.blocks):
        first, last = last + 1, last + len(list(alike))
        reach = f", {block.reweight_T:,} of them with reweight logits" if 0 < block.reweight_T < block.T else ""
        label = f"block {first}" if first == last else f"blocks {first}-{last}"
        yield label, f"{block.head_type} heads, a window of {counted(block.T, 'character')}{reach}"


def _training_facts(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    corpus, recipe = training["corpus"], training["recipe"]
    items = corpus.get("items")
    counted_items = "" if items is None else f"{corpus['item_count']:,} {_kind(items)}, "
    with_ends = "" if items is None else " with the ends of items"
    yield "trained on", f"{corpus['name']}, {counted_items}{corpus['characters']:,} characters{with_ends}"
    if "from" in training:
        yield "started from", f"{training['from']['name']}, digest {training['from']['digest'][:16]}"
    with_muon = f"Muon at {recipe['matrix_learning_rate']:g}, " if recipe["optimizer"] == "muon" else ""
    batch = f"{recipe['batch_chars']:,} characters per step in sequences of {recipe['sequence_length']:,}"
    yield "recipe", f"{with_muon}AdamW at {recipe['learning_rate']:g}, {batch}, seed {recipe['seed']}"
    yield "steps", f"{training['steps_done']:,} of {recipe['steps']:,}, best at {training['best_step']:,}"
    yield "training time", _duration(training["seconds"])
    yield "validation", _held_out(corpus, training.get("validation") or {"how": "end"})
    for name, loss in training.get("evaluation", {}).items():
        every = corpus["validation_characters"] - (items is None)
        count = loss.get("characters", every)
        part = f", on the first {count:,} characters" if count < every else ""
        per_item = f"; {loss['nats_per_item']:.2f} nats/item" if "nats_per_item" in loss else ""
        fact = f"{loss['nats_per_char']:.4f} nats/char, {loss['bits_per_char']:.4f} bits{per_item}{part}"
        yield f"loss, {name.replace('_', ' ')}", fact
    if "yardsticks" in training:
        measured = sorted(training["yardsticks"]["bits_per_char"].items(), key=itemgetter(1))
        yield "yardsticks", ", ".join(f"{name} {bits:.4f}" for name, bits in measured) + " bits/char"
    if "sample" in training:
        sample = training["sample"]
        copies, repeats = (f"{sample[name] / sample['items']:.1%}" for name in ("copies", "repeats"))
        yield "sample", f"of {sample['items']:,} items, {copies} are training items and {repeats} repeat another one"


def _kind(items: Mapping[str, Any]) -> str:
    """Return what the items of a corpus are, in words."""
    return f"cells of the column {items['column']}" if items["kind"] == "column" else str(items["kind"])


def _held_out(corpus: Mapping[str, Any], split: Mapping[str, Any]) -> str:
    """Return what was held out of training, in words."""
    characters = f"{corpus['validation_characters']:,} characters"
    if "items" in corpus:
        characters = f"{corpus['validation_items']:,} items, {characters}"
    if split["how"] == "end":
        return f"the last {characters}"
    if split["how"] == "given":
        return f"a list, {characters}"
    if split["how"] == "file":
        return f"{split['file']}, {characters}"
    by = "in blocks chosen by" if split["how"] == "blocks" else "chosen by their text and"
    return f"{characters}, {by} seed {split['seed']}"


def _schema_facts(schema: Any) -> Iterator[tuple[str, str]]:
    from knock.generation.constraints.schema import check, described

    try:
        check(schema)
    except SchemaError as error:
        yield "table", f"the schema is invalid: {error}"
        return
    yield "table", f"{counted(len(schema['columns']), 'column')}, as {schema['format'].upper()}"
    for name, what in described(schema):
        yield "column", f"{name}: {what}"


def _characters(vocab: Vocab) -> str:
    """Return the characters in a visible form, and consecutive letters or digits as ranges, such as a-z."""
    runs: list[list[str]] = []
    for char in vocab.characters:
        follows = runs and ord(char) == ord(runs[-1][-1]) + 1 and char.isalnum() and runs[-1][-1].isalnum()
        if follows:
            runs[-1].append(char)
        else:
            runs.append([char])
    parts = [part for run in runs for part in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(_visible, run))]
    more = f" ... and {len(parts) - _CHARACTERS:,} more" if len(parts) > _CHARACTERS else ""
    return " ".join(parts[:_CHARACTERS]) + more


def _visible(char: str) -> str:
    return {"\n": "↵", " ": "␣"}.get(char) or printable(on_circles(char))


def _duration(seconds: float) -> str:
    """Return a duration in two units: 5.2 s, 2 min 5 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
