"""Settings of `knock sample`: checks of the options, and what determines the rows, which a resumed run must repeat."""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knock import __version__
from knock.choices import ROW_FORMATS, RowFormat
from knock.cli.sample.filtering import check, constraints
from knock.cli.ui.options import constraint_options, hint_at_escapes
from knock.cli.ui.terminal import is_stream

if TYPE_CHECKING:
    from knock.language_model import LanguageModel
    from knock.sampling import Sampling

_LONG = 10**9  # steps expected from a prompt file, whose length is unknown: enough for compilation to pay off


def row_format(options: argparse.Namespace) -> RowFormat:
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
    if form in ("txt", "csv", "tsv") and (options.log_probs or options.entropies):
        options.error(f"a .{form} file cannot hold --log-probs or --entropies; write .jsonl or .parquet")
    if options.only_new and form != "txt":
        options.error("--only-new is for .txt rows; other formats hold prompt and text apart")
    if options.resume and is_stream(options.out):
        options.error("--resume needs --out FILE, the file to continue")
    if options.resume and options.force:
        options.error("--resume continues FILE and --force overwrites it; give one of them")
    if form == "parquet" and (options.resume or is_stream(options.out)):
        options.error("a Parquet file can be neither streamed nor resumed; write .jsonl")
    check(options)
    return form or "jsonl"


def earlier_settings(options: argparse.Namespace, form: RowFormat) -> dict[str, Any]:
    """Return the settings of the run to resume, only its seed if it is finished; empty for a new run."""
    from knock.jobs.row_file import read_seed, read_settings

    if not options.resume or form == "parquet":
        return {}
    settings = read_settings(options.out)
    if settings is None:
        seed = options.seed if options.seed is not None else read_seed(options.out, form)
        settings = {} if seed is None else {"seed": seed}
    return settings


def loaded_model(options: argparse.Namespace, earlier: Mapping[str, Any]) -> LanguageModel:
    """Load the model on one backend for the whole run: in float32, two backends may draw different characters.

    Sets the default of `--length`, which depends on the model.
    """
    from knock.language_model import load

    backend = earlier.get("backend", "auto") if options.backend == "auto" else options.backend
    model = load(options.model, backend=backend, precision=options.precision)
    if options.schema is not None:
        from knock.generation.constraints.schema import check_writable, read_schema

        schema = read_schema(options.schema)
        model.schema = schema  # which rejects one for a model that is not of items
        check_writable(schema, model.vocab)
    if options.length is None:
        options.length = model.default_length
    model.model.engine.settle(steps=_LONG if options.prompts is not None else options.count * options.length)
    return model


def validate(options: argparse.Namespace, model: LanguageModel, sampling: Sampling, text: str | None) -> None:
    """Check controls, constraints and the prompt before any output is opened.

    Args:
        options: the command's options.
        model: the model.
        sampling: the controls.
        text: the prompt of the command line; None to read `--prompts`.

    Raises:
        VocabError: if the prompt has an unknown character.
        SamplingError: if a control is out of range, or no text matches the constraints.
    """
    from knock.generation.options import split

    with hint_at_escapes(text or ""):
        if model.schema is None:
            model.generate_batch([text or ""], sampling, max_new_tokens=0, unknown=options.unknown)
        else:  # no row is empty
            model.vocab.encode(text or "", unknown=options.unknown)
    constraint = model.constrained(split(constraint_options(options))[1])
    if constraint is not None:
        from knock.generation.requests import RequestBuilder

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the run has the same warnings
            builder = RequestBuilder(
                model.vocab, sampling, options.stop, options.length, options.unknown, constraint=constraint
            )
            if text is not None:
                list(builder.rows(text, 0, 1))


def run_settings(
    options: argparse.Namespace, sampling: Sampling, model: LanguageModel, text: str | None, form: RowFormat
) -> dict[str, Any]:
    """Return the settings that determine the rows."""
    engine = model.model.engine
    settings = {
        "knock": __version__,
        "model": model.digest,
        "precision": engine.precision,
        "backend": engine.backend if engine.precision == "float32" else "auto",  # others do not depend on it
        "seed": options.seed,
        "length": options.length,
        "stop": options.stop,
        "unknown": options.unknown,
        **asdict(sampling),
        **constraints(options),
        "format": form,
        "log_probs": options.log_probs,
        "entropies": options.entropies,
        "only_new": options.only_new,
    }
    if model.schema is not None:
        settings["schema"] = hashlib.sha256(json.dumps(model.schema, sort_keys=True).encode()).hexdigest()[:16]
    if text is not None:
        return {**settings, "prompt": text}
    from knock.cli.sample.prompts import is_jsonl

    return {**settings, "prompts": "jsonl" if is_jsonl(options) else "plain", "count": options.count}
