"""Rows of a table in `knock sample`: which formats a model can write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from knock.choices import ROW_FORMATS, RowFormat
from knock.cli.ui.terminal import is_stream

if TYPE_CHECKING:
    from knock.jobs.table_rows import TableLines
    from knock.language_model import LanguageModel


def default_format(options: argparse.Namespace, model: LanguageModel, form: RowFormat) -> RowFormat:
    """Return the row format: that of the model's table for a stream, unless an option or its name says otherwise."""
    is_said = options.format is not None or Path(options.out).suffix[1:].lower() in ROW_FORMATS
    if model.schema is None or is_said or not is_stream(options.out) or _has_own_fields(options) or options.keep_cut:
        return form
    return "csv" if model.schema["format"] == "csv" else "jsonl"


def table_lines(options: argparse.Namespace, model: LanguageModel, form: RowFormat) -> TableLines | None:
    """Return how the rows of a table are written; None for rows with index, prompt and text.

    The rows of a table are written to .txt as they were generated, and with `--log-probs` or `--entropies`, which no
    table can hold, as the rows of other models. Exits with a usage error if options contradict each other.
    """
    schema = model.schema
    if schema is None:
        if form in ("csv", "tsv"):
            options.error(
                f"a .{form} file holds rows of a table, which this model was not trained on; write .txt or .jsonl"
            )
        return None
    if form == "txt" or _has_own_fields(options):
        return None
    if options.keep_cut:
        options.error("--keep-cut keeps parts of rows, which a table cannot hold; drop it")
    from knock.jobs.table_rows import TableLines

    return TableLines(schema, schema["format"] if form == "parquet" else form)


def _has_own_fields(options: argparse.Namespace) -> bool:
    """Return whether rows have fields that are no columns of a table."""
    return bool(options.log_probs or options.entropies)
