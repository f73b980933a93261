r"""Generate many texts: from one prompt, or from a file of them.

Writes one row per text, in the order of the prompts. A row depends only on the model, its prompt, its controls, the
seed and its index, not on the other rows or the number of threads.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from knock.choices import ROW_FORMATS, UNKNOWN
from knock.cli.sample.filtering import add_filter_arguments, draws, row_filter
from knock.cli.sample.settings import earlier_settings, loaded_model, row_format, run_settings, validate
from knock.cli.sample.table import default_format, table_lines
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.options import (
    add_backend_argument,
    add_constraint_arguments,
    add_escapes_argument,
    add_force_argument,
    add_model_argument,
    add_precision_argument,
    add_sampling_arguments,
    add_seed_argument,
    prompt_text,
    sampling_options,
    whole_number,
)
from knock.cli.ui.terminal import is_live, is_stream, say
from knock.escapes import unescape
from knock.validation import LONGEST
from knock.words import counted

if TYPE_CHECKING:
    from knock.jobs.rows import RowWriter

EXAMPLES = r"""examples:
  knock sample "ROMEO:" --count 1000 --out romeo.jsonl
  knock sample --model names.safetensors --count 5000 --unique --novel names.txt --out new.txt
  knock sample --prompts prompts.jsonl --out texts.jsonl --seed 7
  knock sample --prompts prompts.jsonl --out texts.jsonl --resume
  knock sample --model customers.safetensors --count 1000000 --out customers.csv
  cat names.txt | knock sample --prompts - --count 3 --length 40 > rows.jsonl
  knock sample --prompts prompts.parquet --out texts.parquet --engine ray

A line of prompts.jsonl; every field is optional, and others, such as an id, are
carried into the rows:
  {"id": 7, "prompt": "ROMEO:", "temperature": 0.5, "stop": ["\n\n"]}
"""

_ENGINES = ("local", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT",
                        help="text to continue; - is standard input, with the newline that echo adds and printf "
                             "does not (default: start a new line, or a new item)")  # fmt: skip
    parser.add_argument("--prompts", metavar="FILE",
                        help=r"read one prompt per line, where \n, \r, \t and \\ are escapes; per JSON object of a "
                             ".jsonl file, or per row of a .parquet file; - is standard input")  # fmt: skip
    parser.add_argument("--jsonl", action="store_true", help="read --prompts as JSON objects, whatever its name")
    parser.add_argument("--skip-bad", action="store_true", help="skip invalid lines of --prompts")
    parser.add_argument("-n", "--count", type=whole_number(1), default=1, metavar="N",
                        help="texts per prompt (default: 1)")  # fmt: skip
    parser.add_argument("-o", "--out", default="-", metavar="FILE",
                        help="write a new .jsonl, .txt or .parquet file, or, from a model of a table's rows, a .csv, "
                             ".tsv, .jsonl or .parquet file of its columns; a .txt line is a prompt followed by its "
                             "text, with line breaks and backslashes as in --prompts, or empty for an error; - is "
                             "standard output (default: -)")  # fmt: skip
    parser.add_argument("--format", choices=ROW_FORMATS,
                        help="row format, if the name of FILE does not imply it (default: jsonl; of a table's rows, "
                             "that of the table)")  # fmt: skip
    parser.add_argument("--resume", action="store_true",
                        help="resume the interrupted run that wrote FILE, or extend a finished one, recognised by "
                             "generating rows again: some of a .jsonl file, all of a .txt file")  # fmt: skip
    add_force_argument(parser)
    parser.add_argument("--only-new", action="store_true", help="leave the prompts out of a .txt file")
    parser.add_argument("--log-probs", action="store_true",
                        help="add the natural logarithm of each character's probability: the model's, before bias, "
                             "temperature and filters")  # fmt: skip
    parser.add_argument("--entropies", action="store_true", help="add the model's entropy at each character, in bits")
    add_model_argument(parser)
    parser.add_argument("--schema", metavar="FILE",
                        help="write rows of the schema in FILE instead of the model's own, which knock info MODEL "
                             "--schema prints")  # fmt: skip
    parser.add_argument("--length", type=whole_number(0, LONGEST), metavar="N",
                        help="characters to generate per text (default: 300; in a model of items 1000, or as many as a "
                             "row of a table may have)")  # fmt: skip
    add_seed_argument(
        parser,
        "seed that determines the texts, on every CPU (default: random, reported in each row)",
    )
    add_escapes_argument(parser)
    parser.add_argument("--stop", type=unescape, action="append", metavar="TEXT",
                        help=r"end a text before TEXT, not counting its prompt; \n is a newline; can be "
                             "repeated")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that the model does not know (default: error)")  # fmt: skip
    parser.add_argument("--threads", type=whole_number(1, 1024), metavar="N",
                        help="number of threads, or of Ray workers (default: one per CPU)")  # fmt: skip
    parser.add_argument("--engine", choices=_ENGINES, default="local",
                        help="run on threads of this process, or on the workers of a Ray cluster "
                             "(default: local)")  # fmt: skip
    add_backend_argument(parser)
    add_precision_argument(parser)
    add_filter_arguments(parser)
    add_constraint_arguments(parser)
    add_sampling_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Generate the texts and write their rows; return the exit code."""
    from knock.cli.sample.output import generated, open_writer, shares_terminal, write
    from knock.cli.sample.prompts import count_rows, open_prompts, skip_done
    from knock.cli.ui.progress import Bar
    from knock.errors import GenerationError
    from knock.files.output import check_free
    from knock.jobs.row_file import RowFile
    from knock.sampling import Sampling, resolve_seed

    form = row_format(options)
    if not is_stream(options.out):
        may_exist, inputs = options.force or options.resume, [options.prompts or "-"]
        check_free(options.out, force=may_exist, resumable=form != "parquet", inputs=inputs)
    earlier = earlier_settings(options, form)
    sampling = Sampling.preset(options.sampling, sampling_options(options))  # type: ignore[arg-type]
    is_drawn = options.seed is None
    options.seed = resolve_seed(earlier.get("seed") if is_drawn else options.seed)
    text = None if options.prompts is not None else prompt_text(options.prompt or "", escapes=options.escapes)
    model = loaded_model(options, earlier)
    form = default_format(options, model, form)
    validate(options, model, sampling, text)
    settings = run_settings(options, sampling, model, text, form)
    table = table_lines(options, model, form)
    filter_ = row_filter(options, model, settings)
    with contextlib.ExitStack() as opened:
        interrupts = opened.enter_context(Interrupts())
        prompts = open_prompts(options, sampling, text, interrupts, opened)
        writer = open_writer(options, settings, form, filter_, table, interrupts, opened)
        if not (isinstance(writer, RowFile) and writer.is_finished):
            skip_done(options, prompts, writer.place)
        total, is_shown = count_rows(options), not shares_terminal(options.out)
        begun = writer.place.index if filter_ is None or filter_.count is None else filter_.filters.kept
        bar = opened.enter_context(Bar(total, begun, is_shown=is_shown))
        needed = writer.needed(prompts, prompts.confirm)
        try:
            write(generated(options, model, needed, sampling, writer, interrupts, bar), writer, prompts, bar)
        except KeyboardInterrupt:
            bar.close()
            if not is_stream(options.out):
                more = "" if form == "parquet" else "; pass --resume to continue"
                are = "is" if writer.place.rows == 1 else "are"
                kept = f"{counted(writer.place.rows, 'row')} {are} in {options.out}"
                if isinstance(writer, RowFile) and options.resume and not writer.has_grown:
                    kept = f"{options.out} is unchanged"
                say(f"interrupted; {kept}{more}")
            if filter_ is not None:
                from knock.generation.filters import describe

                say(describe(filter_.filters))
            raise
        is_complete = filter_ is None or filter_.count is None or filter_.is_enough
        if isinstance(writer, RowFile) and is_complete:
            writer.finish()
    if not is_complete:
        raise GenerationError(_too_few(options, writer))
    if isinstance(writer, RowFile) and options.resume and not writer.has_grown:
        say(f"{options.out} is complete: {counted(writer.place.rows, 'row')}")
    elif is_live():
        say(f"{counted(writer.place.rows, 'text')}, {bar.speed}")
    if (form == "txt" or table is not None) and is_drawn:
        say(f"seed {options.seed}")  # the other formats have it in each row
    return _report(writer)


def _too_few(options: argparse.Namespace, writer: RowWriter) -> str:
    """Return the error for a run that has used up its tries."""
    from knock.generation.filters import describe
    from knock.jobs.row_file import RowFile

    assert writer.filter is not None
    filters, resume = writer.filter.filters, " and pass --resume" if isinstance(writer, RowFile) else ""
    return (
        f"got {filters.kept:,} of {counted(options.count, 'text')}: {describe(filters)}. Relax the filters, or raise "
        f"--tries above {draws(options):,}{resume}"
    )


def _report(writer: RowWriter) -> int:
    """Print what became of the other rows; return the exit code."""
    place = writer.place
    if writer.filter is not None:
        from knock.generation.filters import describe

        say(describe(writer.filter.filters))
    if place.skipped:
        say(f"invalid prompt lines skipped: {place.skipped:,}")
    if place.errors:
        say(f"rows with an error: {place.errors:,}")
    return 1 if place.errors else 0
