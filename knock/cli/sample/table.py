"""Rows of a table in `knock sample`: which formats a model can write."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from knock.choices import RowFormat

if TYPE_CHECKING:
    from knock.jobs.table_rows import TableLines
    from knock.language_model import LanguageModel


def table_lines(options: argparse.Namespace, model: LanguageModel, form: RowFormat) -> TableLines | None:
    """Return how the rows of a table are written; None for rows with index, prompt and text.

    Those of a model of JSON objects are written as such to .jsonl, unless `--log-probs` or `--entropies` are wanted.
    Exits with a usage error if options contradict each other.
    """
    from knock.jobs.table_rows import TableLines

    schema = model.schema
    if schema is None:
        if form in ("csv", "tsv"):
            options.error(f"a .{form} file holds rows of a table, which this model was not trained on; write .jsonl")
        return None
    has_columns = form == "jsonl" and schema["format"] == "jsonl" and not (options.log_probs or options.entropies)
    if form not in ("csv", "tsv") and not has_columns:
        return None
    if options.keep_cut:
        options.error("--keep-cut keeps parts of rows, which a table cannot hold; drop it")
    return TableLines(schema, "csv" if form == "csv" else "tsv" if form == "tsv" else "jsonl")
