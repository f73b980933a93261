"""Read the prompts of `knock sample`: from the command line, a text, JSON lines or Parquet file, or standard input."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from knock.cli.sample.filtering import draws
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.terminal import ErrorReporter, is_live
from knock.errors import OutputError, PromptError
from knock.words import counted

if TYPE_CHECKING:
    from knock.jobs.prompt_file import PromptFile, Record
    from knock.jobs.rows import Place
    from knock.sampling import Sampling


def open_prompts(
    options: argparse.Namespace,
    sampling: Sampling,
    text: str | None,
    interrupts: Interrupts,
    opened: contextlib.ExitStack,
) -> PromptFile:
    """Open the source of prompts.

    Args:
        options: the command's options.
        sampling: controls for prompts without their own.
        text: the prompt of the command line; None to read `--prompts`.
        interrupts: allows Ctrl-C while waiting for input.
        opened: the exit stack that closes the file.

    Returns:
        An iterable of one prompt per row.

    Raises:
        PromptError: if the file or standard input cannot be read.
    """
    from knock.jobs.prompt_file import PromptFile

    if text is not None:
        line = json.dumps({"prompt": text}).encode()
        return PromptFile([line], "the prompt", is_jsonl=True, n=draws(options), sampling=sampling)
    name = "standard input" if options.prompts == "-" else repr(options.prompts)
    lines: Iterable[bytes | Record]
    if is_parquet(options):
        from knock.jobs.parquet import prompt_records

        lines = prompt_records(options.prompts)
    else:
        with _read_errors(name), interrupts.idle():  # opening a pipe waits for a writer
            if options.prompts == "-":
                if sys.stdin is None:
                    raise PromptError("standard input is closed; pass --prompts FILE")
                lines = sys.stdin.buffer
            else:
                lines = opened.enter_context(Path(options.prompts).open("rb"))  # noqa: SIM115  # `opened` closes it
    return PromptFile(
        _interruptible(lines, name, interrupts),
        name,
        is_jsonl=is_jsonl(options),
        n=options.count,
        sampling=sampling,
        bad=ErrorReporter().report if options.skip_bad else None,
    )


def is_parquet(options: argparse.Namespace) -> bool:
    """Return whether `--prompts` is a table."""
    return Path(options.prompts).suffix.lower() == ".parquet"


def is_jsonl(options: argparse.Namespace) -> bool:
    """Return whether each line of `--prompts` is a JSON object."""
    return options.jsonl or Path(options.prompts).suffix.lower() == ".jsonl" or is_parquet(options)


def _interruptible(lines: Iterable[bytes | Record], name: str, interrupts: Interrupts) -> Iterator[bytes | Record]:
    """Yield lines; Ctrl-C ends the wait for the next one."""
    lines = iter(lines)
    with _read_errors(name):
        while True:
            with interrupts.idle():
                interrupts.check()
                line = next(lines, None)
            if line is None:
                return
            yield line


@contextlib.contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Raise system errors of reading prompts as `PromptError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PromptError(f"cannot read prompts from {name}: {reason.lower()}; check the path") from error


def skip_done(options: argparse.Namespace, prompts: PromptFile, place: Place) -> None:
    """Skip the prompts whose rows are already written.

    Raises:
        OutputError: if the written rows belong to different prompts.
    """
    prompts.skip(place.index)
    prompts.confirm(place.index)
    if options.prompts is not None and place.prompts and prompts.digest != place.prompts:
        raise OutputError(
            f"cannot resume {options.out!r}: the prompts of its first {counted(place.index, 'row')} have changed in "
            f"{options.prompts!r}. Pass the original prompts"
        )
    prompts.skipped = place.skipped


def count_rows(options: argparse.Namespace) -> int | None:
    """Return the number of rows for the progress bar; None if it is unknown or no bar is shown."""
    if options.prompts is None:
        return int(options.count)
    if not is_live() or not Path(options.prompts).is_file() or is_parquet(options):
        return None
    with Path(options.prompts).open("rb") as lines:
        return int(options.count) * sum(1 for line in lines if line.strip() or not is_jsonl(options))
