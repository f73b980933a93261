r"""Generate many texts: from one prompt, or from a file of them.

Writes one row per text, in the order of the prompts. A row depends only on the model, its prompt, its controls, the
seed and its index, not on the other rows or the number of threads.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock import __version__
from knock.choices import ROW_FORMATS, UNKNOWN, RowFormat
from knock.cli.ui.interrupts import Interrupts
from knock.cli.ui.options import (
    add_backend_argument,
    add_escapes_argument,
    add_force_argument,
    add_model_argument,
    add_sampling_arguments,
    add_seed_argument,
    hint_at_escapes,
    prompt_text,
    sampling_options,
    whole_number,
)
from knock.cli.ui.terminal import is_live, is_stream, say
from knock.escapes import unescape
from knock.words import counted

if TYPE_CHECKING:
    from knock.jobs.rows import Place
    from knock.language_model import LanguageModel
    from knock.sampling import Sampling

EXAMPLES = r"""examples:
  knock sample "ROMEO:" --count 1000 --out romeo.jsonl
  knock sample --count 10000 --stop "\n" --length 20 --unique --out lines.txt
  knock sample --prompts prompts.jsonl --out texts.jsonl --seed 7
  knock sample --prompts prompts.jsonl --out texts.jsonl --resume
  cat names.txt | knock sample --prompts - --count 3 --length 40 > rows.jsonl
  knock sample --prompts prompts.parquet --out texts.parquet --engine ray

A line of prompts.jsonl; every field is optional, and others, such as an id, are
carried into the rows:
  {"id": 7, "prompt": "ROMEO:", "temperature": 0.5, "stop": ["\n\n"]}
"""

_ENGINES = ("local", "ray")

_LONG = 10**9  # steps expected from a prompt file, whose length is unknown: enough for compilation to pay off


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT",
                        help="text to continue; - is standard input, with the newline that echo adds and printf "
                             "does not (default: start a new line)")  # fmt: skip
    parser.add_argument("--prompts", metavar="FILE",
                        help=r"read one prompt per line, where \n, \r, \t and \\ are escapes; per JSON object of a "
                             ".jsonl file, or per row of a .parquet file; - is standard input")  # fmt: skip
    parser.add_argument("--jsonl", action="store_true", help="read --prompts as JSON objects, whatever its name")
    parser.add_argument("--skip-bad", action="store_true", help="skip invalid lines of --prompts")
    parser.add_argument("-n", "--count", type=whole_number(1), default=1, metavar="N",
                        help="texts per prompt (default: 1)")  # fmt: skip
    parser.add_argument("-o", "--out", default="-", metavar="FILE",
                        help="write a new .jsonl, .txt or .parquet file; a .txt line is a prompt followed by its text, "
                             "with line breaks and backslashes as in --prompts, or empty for an error; - is "
                             "standard output (default: -)")  # fmt: skip
    parser.add_argument("--format", choices=ROW_FORMATS,
                        help="row format, if the name of FILE does not imply it (default: jsonl)")  # fmt: skip
    parser.add_argument("--resume", action="store_true",
                        help="resume the interrupted run that wrote FILE, or extend a finished one, recognised by "
                             "generating rows again: some of a .jsonl file, all of a .txt file")  # fmt: skip
    add_force_argument(parser)
    parser.add_argument("--only-new", action="store_true", help="leave the prompts out of a .txt file")
    parser.add_argument("--unique", action="store_true", help="drop duplicate texts")
    parser.add_argument("--log-probs", action="store_true",
                        help="add the natural logarithm of each character's probability: the model's, before bias, "
                             "temperature and filters")  # fmt: skip
    parser.add_argument("--entropies", action="store_true", help="add the model's entropy at each character, in bits")
    add_model_argument(parser)
    parser.add_argument("--length", type=whole_number(0), default=300, metavar="N",
                        help="characters to generate per text (default: 300)")  # fmt: skip
    add_seed_argument(
        parser,
        "seed that determines the texts, on the same type of CPU and backend (default: random, reported in each row)",
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
    add_sampling_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Generate the texts and write their rows; return the exit code."""
    from knock.cli.sample.output import on_cluster, on_threads, open_writer, shares_terminal, write
    from knock.cli.sample.prompts import count_rows, open_prompts, skip_done
    from knock.cli.ui.progress import Bar
    from knock.files.output import check_free
    from knock.jobs.row_file import RowFile
    from knock.sampling import Sampling, resolve_seed

    form = _form(options)
    if not is_stream(options.out):
        may_exist, inputs = options.force or options.resume, [options.prompts or "-"]
        check_free(options.out, force=may_exist, resumable=form != "parquet", inputs=inputs)
    earlier = _earlier_settings(options, form)
    sampling = Sampling.preset(options.sampling, sampling_options(options))  # type: ignore[arg-type]
    is_drawn = options.seed is None
    options.seed = resolve_seed(earlier.get("seed") if is_drawn else options.seed)
    text = None if options.prompts is not None else prompt_text(options.prompt or "", escapes=options.escapes)
    model = _model(options, earlier)
    with hint_at_escapes(text or ""):
        model.generate_batch([text or ""], sampling, max_new_tokens=0, unknown=options.unknown)  # validate
    settings = _settings(options, sampling, model, text, form)
    with contextlib.ExitStack() as opened:
        interrupts = opened.enter_context(Interrupts())
        prompts = open_prompts(options, sampling, text, interrupts, opened)
        writer = open_writer(options, settings, form, interrupts, opened)
        if not (isinstance(writer, RowFile) and writer.is_finished):
            skip_done(options, prompts, writer.place)
        needed = writer.needed(prompts, prompts.confirm)
        total, is_shown = count_rows(options), not shares_terminal(options.out)
        bar = opened.enter_context(Bar(total, writer.place.index, is_shown=is_shown))
        generate = on_cluster if options.engine == "ray" else on_threads
        try:
            write(generate(options, model, needed, sampling, interrupts, bar), writer, prompts, bar)
        except KeyboardInterrupt:
            bar.close()
            if not is_stream(options.out):
                more = "" if form == "parquet" else "; pass --resume to continue"
                are = "is" if writer.place.rows == 1 else "are"
                kept = f"{counted(writer.place.rows, 'row')} {are} in {options.out}"
                if isinstance(writer, RowFile) and options.resume and not writer.has_grown:
                    kept = f"{options.out} is unchanged"
                say(f"interrupted; {kept}{more}")
            raise
        if isinstance(writer, RowFile):
            writer.finish()
    if isinstance(writer, RowFile) and options.resume and not writer.has_grown:
        say(f"{options.out} is complete: {counted(writer.place.rows, 'row')}")
    elif is_live():
        say(f"{counted(writer.place.rows, 'text')}, {bar.speed}")
    if form == "txt" and is_drawn:
        say(f"seed {options.seed}")  # the other formats have it in each row
    return _report(options, writer.place)


def _form(options: argparse.Namespace) -> RowFormat:
    """Return the row format; exit with a usage error if options contradict each other."""
    if options.prompts is not None and options.prompt is not None:
        options.error("give a PROMPT or --prompts FILE, not both")
    for name in ("jsonl", "skip_bad"):
        if getattr(options, name) and options.prompts is None:
            options.error(f"--{name.replace('_', '-')} needs --prompts FILE")
    suffix = Path(options.out).suffix[1:].lower()
    form = options.format or next((known for known in ROW_FORMATS if known == suffix), None)
    if form is None and not is_stream(options.out):
        options.error(f"--out must end in .{', .'.join(ROW_FORMATS)}, got {options.out!r}; rename it, or pass --format")
    if form == "txt" and (options.log_probs or options.entropies):
        options.error("a .txt file cannot hold --log-probs or --entropies; write .jsonl or .parquet")
    if options.only_new and form != "txt":
        options.error("--only-new is for .txt rows; other formats hold prompt and text apart")
    if options.resume and is_stream(options.out):
        options.error("--resume needs --out FILE, the file to continue")
    if options.resume and options.force:
        options.error("--resume continues FILE and --force overwrites it; give one of them")
    if form == "parquet" and (options.resume or is_stream(options.out)):
        options.error("a Parquet file can be neither streamed nor resumed; write .jsonl")
    return form or "jsonl"


def _earlier_settings(options: argparse.Namespace, form: RowFormat) -> dict[str, Any]:
    """Return the settings of the run to resume, only its seed if it is finished; empty for a new run."""
    from knock.jobs.row_file import read_seed, read_settings

    if not options.resume or form == "parquet":
        return {}
    settings = read_settings(options.out)
    if settings is None:
        seed = options.seed if options.seed is not None else read_seed(options.out, form)
        settings = {} if seed is None else {"seed": seed}
    return settings


def _model(options: argparse.Namespace, earlier: Mapping[str, Any]) -> LanguageModel:
    """Load the model on one backend for the whole run: in rare cases two backends draw different characters."""
    from knock.language_model import load

    backend = earlier.get("backend", "auto") if options.backend == "auto" else options.backend
    model = load(options.model, backend=backend)
    model.model.engine.settle(steps=_LONG if options.prompts is not None else options.count * options.length)
    return model


def _settings(
    options: argparse.Namespace, sampling: Sampling, model: LanguageModel, text: str | None, form: RowFormat
) -> dict[str, Any]:
    """Return the settings that determine the rows."""
    settings = {
        "knock": __version__,
        "model": model.digest,
        "backend": model.model.engine.backend,
        "seed": options.seed,
        "length": options.length,
        "stop": options.stop,
        "unknown": options.unknown,
        **asdict(sampling),
        "format": form,
        "log_probs": options.log_probs,
        "entropies": options.entropies,
        "unique": options.unique,
        "only_new": options.only_new,
    }
    if text is not None:
        return {**settings, "prompt": text}
    from knock.cli.sample.prompts import is_jsonl

    return {**settings, "prompts": "jsonl" if is_jsonl(options) else "plain", "count": options.count}


def _report(options: argparse.Namespace, place: Place) -> int:
    """Print what became of the other rows; return the exit code."""
    if options.unique:
        say(f"duplicates dropped: {place.duplicates:,}")
    if place.skipped:
        say(f"invalid prompt lines skipped: {place.skipped:,}")
    if place.errors:
        say(f"rows with an error: {place.errors:,}")
    return 1 if place.errors else 0
