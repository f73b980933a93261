"""Where `knock sample` has its prompts from: the command line, a file of lines, a Parquet file, standard input."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.terminal import Told, is_live
from knock.errors import OutputError, PromptError

if TYPE_CHECKING:
    from knock.jobs.prompt_file import PromptFile
    from knock.jobs.rows import Place
    from knock.sampling import Sampling


def open_prompts(
    options: argparse.Namespace,
    sampling: Sampling,
    text: str | None,
    interrupts: Interrupts,
    opened: contextlib.ExitStack,
) -> PromptFile:
    """The prompts, from wherever they are.

    Args:
        options: those of the command.
        sampling: the controls of prompts that have none of their own.
        text: the one prompt, if there is one.
        interrupts: what stops the reading.
        opened: closes what is opened here.

    Raises:
        PromptError: if they cannot be read.
    """
    from knock.jobs.prompt_file import PromptFile

    if text is not None:
        line = json.dumps({"prompt": text}).encode()
        return PromptFile([line], "the prompt", is_jsonl=True, n=options.count, sampling=sampling)
    name = "standard input" if options.prompts == "-" else repr(options.prompts)
    lines: Iterable[bytes]
    if _is_parquet(options):
        from knock.jobs.parquet import prompt_lines

        lines = prompt_lines(options.prompts)
    else:
        with _told_reading(name), interrupts.idle():  # opening a pipe waits for who writes to it
            if options.prompts == "-":
                if sys.stdin is None:
                    raise PromptError("standard input is closed, so there are no prompts to read")
                lines = sys.stdin.buffer
            else:
                lines = opened.enter_context(Path(options.prompts).open("rb"))  # noqa: SIM115  # `opened` closes it
    return PromptFile(
        _idly(lines, name, interrupts),
        name,
        is_jsonl=is_jsonl(options),
        n=options.count,
        sampling=sampling,
        bad=Told().tell if options.skip_bad else None,
    )


def _is_parquet(options: argparse.Namespace) -> bool:
    return Path(options.prompts).suffix == ".parquet"


def is_jsonl(options: argparse.Namespace) -> bool:
    """Whether the lines of the prompts are JSON."""
    return options.jsonl or Path(options.prompts).suffix == ".jsonl" or _is_parquet(options)


def _idly(lines: Iterable[bytes], name: str, interrupts: Interrupts) -> Iterator[bytes]:
    """Lines, where waiting for the next one can be interrupted."""
    lines = iter(lines)
    with _told_reading(name):
        while True:
            with interrupts.idle():
                interrupts.check()
                line = next(lines, None)
            if line is None:
                return
            yield line


@contextlib.contextmanager
def _told_reading(name: str) -> Iterator[None]:
    """What the system says of prompts that are read, as one of knock's errors."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PromptError(f"cannot read the prompts in {name}: {reason.lower()}; check the path") from error


def skip_done(options: argparse.Namespace, prompts: PromptFile, place: Place) -> None:
    """Pass over the prompts of the rows that are there.

    Raises:
        OutputError: if those are the rows of other prompts.
    """
    prompts.skip(place.index)
    prompts.confirm(place.index)
    if options.prompts is not None and place.prompts and prompts.digest != place.prompts:
        raise OutputError(
            f"{options.out!r} belongs to other prompts: {options.prompts!r} differs in the lines of its first "
            f"{place.index:,} rows; resume it with the prompts it was begun with"
        )
    prompts.skipped = place.skipped


def count_rows(options: argparse.Namespace) -> int | None:
    """How many rows there will be, if that is known and somebody looks."""
    if options.prompts is None:
        return int(options.count)
    if not is_live() or not Path(options.prompts).is_file() or _is_parquet(options):
        return None
    with Path(options.prompts).open("rb") as lines:
        return int(options.count) * sum(1 for line in lines if line.strip() or not is_jsonl(options))
