"""`knock score --held-out`: the losses of models on what training held out of a corpus."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from knock.cli.score.output import DONE, aligned, cells, characters, figures
from knock.cli.ui.terminal import printable, read_input, say, write
from knock.models import DEFAULT

if TYPE_CHECKING:
    from knock.files.corpus import TokenizedText
    from knock.language_model import LanguageModel


def score_held_out(options: argparse.Namespace) -> int:
    """Measure the losses of models on the held-out part of a corpus, and print them."""
    from knock.cli.ui.progress import ShareLine
    from knock.generation.evaluation import as_record, evaluate
    from knock.language_model import load

    models = {
        name: load(name, backend=options.backend, precision=options.precision) for name in options.models or [DEFAULT]
    }
    given = read_input() if options.files == ["-"] else None
    losses = {}
    with ShareLine("measured") as line:
        for number, (name, model) in enumerate(models.items()):

            def show(share: float, number: int = number) -> None:
                line.show((number + share) / len(models))

            text = _corpus(options, model, given)
            boundary = model.vocab.boundary
            losses[name] = evaluate(model.model.engine, text.held_out, boundary=boundary, progress=show)
            line.clear()
            _report_corpus(name, model, text, min(loss.characters for loss in losses[name].values()))
    if options.json:
        for name, measured in losses.items():
            facts = {"model": name, "digest": models[name].digest, "held_out": as_record(measured)}
            write(json.dumps(facts, ensure_ascii=False) + "\n")
        return 0
    has_items = any(model.vocab.has_boundary for model in models.values())
    rows = [
        (printable(name), of.replace("_", " "), *cells(loss, has_items=has_items))
        for name, measured in losses.items()
        for of, loss in measured.items()
    ]
    head = ("model", "loss", *figures(has_items=has_items))
    write("".join(f"{line}\n" for line in aligned([head, *rows], texts=2)))
    return 0


def _corpus(options: argparse.Namespace, model: LanguageModel, given: str | None) -> TokenizedText:
    """Return the corpus as tokens of a model, read and split as in training."""
    from knock.files.corpus import Settings, TokenizedText, recorded_settings
    from knock.files.items import Items

    settings: Settings = {**recorded_settings(model.training), "vocab": model.vocab, "unknown": options.unknown}
    items = settings.get("items")
    if model.vocab.has_boundary and (items is None or items.kind == "texts"):
        settings["items"] = Items(kind="lines")
    if given is not None:
        return TokenizedText.from_text(given, "standard input", **settings)
    return TokenizedText.read(options.files, **settings)


def _report_corpus(name: str, model: LanguageModel, text: TokenizedText, predicted: int) -> None:
    """Report what was left out of the measurement, and a corpus that the model was not trained on."""
    if text.marks:
        say(f"knock: {name!r} does not know byte-order marks (U+FEFF): skipped {text.marks:,}")
    if text.unknown_count:
        say(f"knock: {DONE[text.unknown]} {characters(text.unknown_count)} that {name!r} does not know")
    if predicted < len(text.held_out) - 1:
        say(f"knock: measured the first {characters(predicted)} of the {characters(len(text.held_out))} held out")
    trained_on = model.training.get("corpus", {})
    if trained_on.get("sha256", text.sha256) != text.sha256:
        say(f"knock: {name!r} was trained on another text, {printable(str(trained_on.get('name')))}; "
            "training may have seen what this one holds out")  # fmt: skip
