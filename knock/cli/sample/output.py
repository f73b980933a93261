"""Generate the rows of `knock sample` and write them."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock.choices import LineFormat, RowFormat
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.options import constraint_options
from knock.cli.ui.progress import Bar
from knock.cli.ui.terminal import ErrorReporter, is_stream, write_bytes
from knock.errors import OutputError
from knock.generation.results import Interrupted
from knock.jobs.row_file import RowFile, output_errors
from knock.jobs.rows import LineWriter, RowWriter, row_of

if TYPE_CHECKING:
    from knock.generation.results import Prompt
    from knock.jobs.prompt_file import PromptFile
    from knock.jobs.row_filter import RowFilter
    from knock.jobs.rows import Row
    from knock.jobs.table_rows import TableLines
    from knock.language_model import LanguageModel
    from knock.sampling import Sampling

_FLUSH_SECONDS = 0.5  # at least, between two writes
_PORTION = 2**18  # rows, at most, that a cluster generates before those that are kept are counted


def open_writer(
    options: argparse.Namespace,
    settings: dict[str, Any],
    form: RowFormat,
    filter_: RowFilter | None,
    table: TableLines | None,
    interrupts: Interrupts,
    opened: contextlib.ExitStack,
) -> RowWriter:
    """Open the output file or stream.

    Args:
        options: the command's options.
        settings: the settings that determine the rows, recorded in the journal.
        form: the row format.
        filter_: which rows to keep; None for all.
        table: writes the rows of a table; None for other formats.
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
            RowTable(options.out, columns, extra=_extra(options), filter_=filter_, force=options.force, table=table)
        )
    line_form: LineFormat = "txt" if form == "txt" else "jsonl" if table is None else "table"
    rest: Any = {"filter_": filter_, "only_new": options.only_new, "table": table}
    if options.out == "-":
        return LineWriter(write_bytes, line_form, **rest)
    if is_stream(options.out):
        with output_errors(Path(options.out)), interrupts.idle():
            stream = opened.enter_context(Path(options.out).open("wb", buffering=0))  # noqa: SIM115  # `opened` closes it
        return LineWriter(stream.write, line_form, **rest)
    return opened.enter_context(
        RowFile(options.out, settings, line_form, resume=options.resume, force=options.force, **rest)
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


def generated(
    options: argparse.Namespace,
    model: LanguageModel,
    prompts: Iterable[Prompt],
    sampling: Sampling,
    writer: RowWriter,
    interrupts: Interrupts,
    bar: Bar,
) -> Iterator[Row]:
    """Generate rows until the writer takes no more. On Ctrl-C, yield the finished ones up to the first gap, then raise.

    Args:
        options: the command's options.
        model: the model.
        prompts: the prompts, each with its index.
        sampling: controls for prompts without their own.
        writer: the writer of the rows.
        interrupts: allows Ctrl-C.
        bar: shows how many there are.
    """
    filter_ = writer.filter
    begun = filter_.filters.kept if filter_ is not None else 0

    def progress(count: int) -> None:
        bar.texts(count if filter_ is None or filter_.count is None else filter_.filters.kept - begun)
        interrupts.check()

    # A group of rows is generated when the one before has been written, so only few are generated in vain.
    wanted = itertools.takewhile(lambda prompt: writer.takes(prompt.index or 0), prompts)
    at_once = None if filter_ is None or filter_.count is None else filter_.at_once
    generate = _on_cluster if options.engine == "ray" else _on_threads
    return generate(options, model, wanted, sampling, at_once, progress, interrupts)


def _on_threads(
    options: argparse.Namespace,
    model: LanguageModel,
    prompts: Iterable[Prompt],
    sampling: Sampling,
    at_once: Callable[[], int] | None,
    progress: Callable[[int], None],
    interrupts: Interrupts,
) -> Iterator[Row]:
    """Generate rows in this process."""
    texts = model.sample_iter(
        prompts,
        sampling,
        seed=options.seed,
        max_new_tokens=options.length,
        stop=options.stop,
        unknown=options.unknown,
        token_stats=options.log_probs or options.entropies,
        keep_errors=True,
        keep_rejected=at_once is not None,  # the filter counts them and takes the next
        threads=options.threads,
        progress=progress,
        at_once=at_once,
        **constraint_options(options),
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


def _on_cluster(
    options: argparse.Namespace,
    model: LanguageModel,
    prompts: Iterable[Prompt],
    sampling: Sampling,
    at_once: Callable[[], int] | None,
    progress: Callable[[int], None],
    interrupts: Interrupts,
) -> Iterator[Row]:
    """Generate rows on the workers of a Ray cluster."""
    from knock.distributed import sample_prompts

    def portions() -> Iterator[Iterable[Prompt]]:
        remaining = iter(prompts)
        if at_once is None:
            yield remaining
            return
        while portion := list(itertools.islice(remaining, min(at_once(), _PORTION))):
            yield portion

    rows = itertools.chain.from_iterable(
        sample_prompts(
            portion,
            model,
            sampling,
            options.seed,
            max_new_tokens=options.length,
            stop=options.stop,
            unknown=options.unknown,
            keep_rejected=at_once is not None,
            log_probs=options.log_probs,
            entropies=options.entropies,
            workers=options.threads,
            **constraint_options(options),
        )
        for portion in portions()
    )
    for done in range(1, sys.maxsize):
        with interrupts.idle():
            interrupts.check()
            row = next(rows, None)
        if row is None:
            return
        progress(done)
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
            if not writer.takes(row["index"]):
                break
            writer.add(row)
            chars += len(row["text"])
            bar.chars(chars)
            if "error" in row:
                errors.report(f"row {row['index']}: {row['error']}")
            if time.monotonic() - last > _FLUSH_SECONDS:
                flush()
                last = time.monotonic()
        if writer.filter is None or writer.filter.count is None:
            writer.place.index = prompts.index  # includes invalid lines at the end
    except (OSError, OutputError):  # a failed write: another flush would fail too
        raise
    except BaseException:
        flush()
        raise
    flush()
