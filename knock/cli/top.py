"""Find the most probable texts of a model.

Nothing is drawn: a search finds the whole texts that are most probable by the model's own distribution, and proves that
there are no others. In a model of items, each is an item that PROMPT begins; otherwise it is the text after PROMPT, and
--stop, --max-length or a --pattern says where it ends.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from knock.choices import UNKNOWN
from knock.cli.ui.options import (
    add_backend_argument,
    add_constraint_arguments,
    add_escapes_argument,
    add_model_argument,
    add_precision_argument,
    constraint_options,
    hint_at_escapes,
    prompt_text,
    whole_number,
)
from knock.cli.ui.terminal import for_output, say, write
from knock.escapes import escape, unescape
from knock.validation import LONGEST
from knock.words import counted

if TYPE_CHECKING:
    from knock.generation.search import LikelyText, MostLikely

EXAMPLES = r"""examples:
  knock top --model names.safetensors --count 20
  knock top --stop "\n" --min-length 5
  knock top "KING " --pattern "[A-Z ]+:" --json
"""

_SMALLEST = 0.001  # percent that is not written with an exponent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("prompt", nargs="?", default="", metavar="PROMPT",
                        help="text to continue, or the beginning of an item; - reads standard input (default: a new "
                             "line, or any item)")  # fmt: skip
    add_model_argument(parser)
    parser.add_argument("-n", "--count", type=whole_number(1), default=10, metavar="N",
                        help="number of texts (default: 10)")  # fmt: skip
    parser.add_argument("--length", type=whole_number(1, LONGEST), default=300, metavar="N",
                        help="leave out texts of more than N characters (default: 300)")  # fmt: skip
    parser.add_argument("--stop", type=unescape, action="append", metavar="TEXT",
                        help=r"a text ends before TEXT; \n is a newline; can be repeated")  # fmt: skip
    parser.add_argument("--limit", type=whole_number(1), default=100_000, metavar="N",
                        help="stop after looking at N beginnings of texts, each of which takes about a kilobyte of "
                             "memory (default: 100,000)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object per text")
    add_escapes_argument(parser)
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that the model does not know (default: error)")  # fmt: skip
    add_backend_argument(parser)
    add_precision_argument(parser)
    add_constraint_arguments(parser, is_drawn=False)


def run(options: argparse.Namespace) -> int:
    """Find and print the texts."""
    from knock.cli.ui.progress import ShareLine
    from knock.language_model import load

    prompt = prompt_text(options.prompt, escapes=options.escapes)
    model = load(options.model, backend=options.backend, precision=options.precision)
    with hint_at_escapes(prompt), ShareLine("looked at") as line:
        found = model.most_likely(
            options.count,
            prompt,
            stop=options.stop,
            max_new_tokens=options.length,
            limit=options.limit,
            unknown=options.unknown,
            progress=lambda done: line.count(done, "beginning"),
            **constraint_options(options),
        )
    write(_as_json(found) if options.json else _as_table(found.texts))
    return _report(found, options.count)


def _as_table(texts: tuple[LikelyText, ...]) -> str:
    """Return the texts with their probabilities, one on each line."""
    rows = [f"{_percent(each.probability):>11}  {each.bits:>6.2f}  {for_output(escape(each.text))}" for each in texts]
    return "\n".join([f"{'probability':>11}  {'bits':>6}  text", *rows, ""]) if rows else ""


def _percent(probability: float) -> str:
    percent = 100 * probability
    return f"{percent:.3f}%" if percent >= _SMALLEST else f"{percent:.1e}%"


def _as_json(found: MostLikely) -> str:
    import json

    lines = [
        {
            "text": each.text, "log_prob": each.log_prob, "bits": each.bits, "probability": each.probability,
            "is_proved": number < found.proved,
        }
        for number, each in enumerate(found)
    ]  # fmt: skip
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _report(found: MostLikely, wanted: int) -> int:
    """Say what is missing; return the exit code: that of a failure if there is no text."""
    if found.is_exact:
        if len(found) < wanted:
            say(f"there are no others: {counted(len(found), 'text')} in all")
        return 0
    known = {0: "none is", 1: "only the first is"}.get(found.proved, f"only the first {found.proved:,} are")
    what = f"{known} proved to be the most probable" if found else "no whole text was found"
    say(
        f"knock: stopped after {counted(found.prefixes, 'beginning')}: {what}; raise --limit, or narrow the texts down",
        is_essential=True,
    )
    return 0 if found else 1
