"""Generate the rows of `knock sample` and write them."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.choices import RowFormat
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.progress import Bar
from knock.cli.ui.terminal import ErrorReporter, is_stream, write_bytes
from knock.errors import OutputError
from knock.generation.results import Interrupted
from knock.jobs.row_file import RowFile, output_errors
from knock.jobs.rows import LineWriter, RowWriter, row_of

if TYPE_CHECKING:
    from knock.generation.results import Prompt
    from knock.jobs.prompt_file import PromptFile
    from knock.jobs.rows import Row
    from knock.language_model import LanguageModel
    from knock.sampling import Sampling

_FLUSH_SECONDS = 0.5  # at least, between two writes


def open_writer(
    options: argparse.Namespace,
    settings: dict[str, Any],
    form: RowFormat,
    interrupts: Interrupts,
    opened: contextlib.ExitStack,
) -> RowWriter:
    """Open the output file or stream.

    Args:
        options: the command's options.
        settings: the settings that determine the rows, recorded in the journal.
        form: the row format.
        interrupts: allows Ctrl-C while opening a pipe waits for a reader.
        opened: the exit stack that closes the output.

    Returns:
        The writer of the rows.

    Raises:
        OutputError: if the output cannot be written.
    """
    if form == "parquet":
        from knock.jobs.parquet import RowTable

        columns = [name for name in ("log_probs", "entropies") if getattr(options, name)]
        return opened.enter_context(
            RowTable(options.out, columns, extra=_extra(options), unique=options.unique, force=options.force)
        )
    dropped = {"unique": options.unique, "only_new": options.only_new}
    if options.out == "-":
        return LineWriter(write_bytes, form, **dropped)
    if is_stream(options.out):
        with output_errors(Path(options.out)), interrupts.idle():
            stream = opened.enter_context(Path(options.out).open("wb", buffering=0))  # noqa: SIM115  # `opened` closes it
        return LineWriter(stream.write, form, **dropped)
    return opened.enter_context(
        RowFile(options.out, settings, form, resume=options.resume, force=options.force, **dropped)
    )


def _extra(options: argparse.Namespace) -> Any:
    """Return the pyarrow schema of the prompts' other fields; None if it is unknown, as in JSON lines."""
    from knock.cli.sample.prompts import is_jsonl, is_parquet
    from knock.jobs.parquet import extra_schema

    if options.prompts is None or not is_jsonl(options):
        return extra_schema(None)
    return extra_schema(options.prompts) if is_parquet(options) else None


def shares_terminal(out: str) -> bool:
    """Return whether rows and messages go to the same terminal, where a progress bar would run into the rows."""
    try:
        place = os.fstat(sys.stdout.fileno()) if out == "-" else Path(out).stat()
        return sys.stderr.isatty() and os.path.samestat(place, os.fstat(sys.stderr.fileno()))
    except (AttributeError, OSError, ValueError):  # AttributeError: sys.stdout is None; ValueError: it is no file
        return False


def on_threads(
    options: argparse.Namespace,
    model: LanguageModel,
    prompts: Iterable[Prompt],
    sampling: Sampling,
    interrupts: Interrupts,
    bar: Bar,
) -> Iterator[Row]:
    """Generate rows in this process. On Ctrl-C, yield the finished rows up to the first gap, then raise."""

    def progress(count: int) -> None:
        bar.texts(count)
        interrupts.check()

    texts = model.sample_iter(
        prompts,
        sampling,
        seed=options.seed,
        max_new_tokens=options.length,
        stop=options.stop,
        unknown=options.unknown,
        token_stats=options.log_probs or options.entropies,
        keep_errors=True,
        threads=options.threads,
        progress=progress,
    )
    kept = {"log_probs": options.log_probs, "entropies": options.entropies}
    try:
        for text in texts:
            yield row_of(text, **kept)
    except Interrupted as interrupt:
        for text in interrupt.finished:
            if text.index < interrupt.first_missing:
                yield row_of(text, **kept)
        raise


def on_cluster(
    options: argparse.Namespace,
    model: LanguageModel,
    prompts: Iterable[Prompt],
    sampling: Sampling,
    interrupts: Interrupts,
    bar: Bar,
) -> Iterator[Row]:
    """Generate rows on the workers of a Ray cluster."""
    from knock.distributed import sample_prompts

    rows = sample_prompts(
        prompts,
        model,
        sampling,
        options.seed,
        max_new_tokens=options.length,
        stop=options.stop,
        unknown=options.unknown,
        log_probs=options.log_probs,
        entropies=options.entropies,
        workers=options.threads,
    )
    for done in range(1, sys.maxsize):
        with interrupts.idle():
            interrupts.check()
            row = next(rows, None)
        if row is None:
            return
        bar.texts(done)
        yield row


def write(rows: Iterator[Row], writer: RowWriter, prompts: PromptFile, bar: Bar) -> None:
    """Write rows as they arrive; on any error or interrupt, write those received so far before raising."""
    errors, chars, last = ErrorReporter(), 0, time.monotonic()

    def flush() -> None:
        prompts.confirm(writer.place.index)
        writer.place.prompts, writer.place.skipped = prompts.digest, prompts.skipped
        writer.flush()

    try:
        for row in rows:
            writer.add(row)
            chars += len(row["text"])
            bar.chars(chars)
            if "error" in row:
                errors.report(f"row {row['index']}: {row['error']}")
            if time.monotonic() - last > _FLUSH_SECONDS:
                flush()
                last = time.monotonic()
        writer.place.index = prompts.index  # includes invalid lines at the end
    except (OSError, OutputError):  # a failed write: another flush would fail too
        raise
    except BaseException:
        flush()
        raise
    flush()
