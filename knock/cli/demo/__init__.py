"""Take a tour of a model: temperature, loops, top-p, entropy, surprise, heads.

Each of its steps takes a few seconds, and shows the command that writes the same text. On a terminal, Enter goes on to
the next step. All texts and numbers are computed while you watch, from any model: your own, too.

With --random-weights, the tour needs no model file: it uses the vocabulary of a short built-in text and random weights,
and compares three sampling methods and three types of heads. The output is then noise; compare the statistics of the
different settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from knock.choices import DEFAULT_PRECISION
from knock.cli.ui.options import (
    add_backend_argument,
    add_model_argument,
    add_precision_argument,
    add_seed_argument,
    whole_number,
)
from knock.cli.ui.style import styled
from knock.cli.ui.terminal import write
from knock.errors import KnockError, UnknownCharacterError
from knock.models import DEFAULT

if TYPE_CHECKING:
    from knock.cli.demo.tour import Tour
    from knock.language_model import LanguageModel

EXAMPLES = """examples:
  knock demo
  knock demo --no-pause --seed 7
  knock demo --model my.safetensors --prompt "Dear "
  knock demo --random-weights --length 400
"""

_SEED, _LENGTH, _LENGTH_OF_NOISE = 42, 200, 120
_PROMPT = "ROMEO:"
_NEXT = (
    ("knock repl", "write with the model; /pick word by word"),
    ("knock inspect", "look at all of its heads"),
    ("knock help train", "train one on your own text"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_model_argument(parser)
    parser.add_argument("--prompt", metavar="TEXT",
                        help=f"text that the model continues (default: {_PROMPT} if the model knows these characters; "
                             "in a model of items, a new item)")  # fmt: skip
    add_seed_argument(parser, f"seed of every text, and of random weights (default: {_SEED})")
    parser.add_argument("--length", type=whole_number(1, 100_000), metavar="N",
                        help=f"characters per text (default: {_LENGTH}; with --random-weights "
                             f"{_LENGTH_OF_NOISE})")  # fmt: skip
    parser.add_argument("--no-pause", action="store_true",
                        help="do not wait for Enter after each step, as without a terminal")  # fmt: skip
    parser.add_argument("--random-weights", action="store_true", help="use random weights instead of a model")
    add_backend_argument(parser)
    add_precision_argument(parser)
    parser.set_defaults(seed=_SEED)


def run(options: argparse.Namespace) -> int:
    """Run the tour."""
    if options.random_weights:
        if (options.model, options.prompt, options.precision) != (DEFAULT, None, DEFAULT_PRECISION):
            options.error("--random-weights has a model and a prompt of its own; leave out --model, --prompt and "
                          "--precision")  # fmt: skip
        from knock.cli.demo.random_weights import tour_random_weights

        options.length = options.length or _LENGTH_OF_NOISE
        return tour_random_weights(options)
    return _take_tour(_tour(options), is_paused=_is_paused(options))


def _tour(options: argparse.Namespace) -> Tour:
    """Load the model and check the prompt."""
    import shlex

    from knock.cli.demo.tour import Tour
    from knock.language_model import load
    from knock.models import locate

    model = load(options.model, backend=options.backend, precision=options.precision)
    given = ["-m", options.model] if options.model != DEFAULT else []
    given += ["--precision", options.precision] if options.precision != DEFAULT_PRECISION else []
    return Tour(
        name=locate(options.model).stem, model=model, prompt=_prompt(options.prompt, model), seed=options.seed,
        length=options.length or _LENGTH, options=shlex.join(given),
    )  # fmt: skip


def _prompt(given: str | None, model: LanguageModel) -> str:
    """Return the prompt as the model reads it; by default one that it knows, or an empty one.

    Raises:
        KnockError: if the model does not know a character of it.
    """
    if given is None:
        is_known = not model.vocab.has_boundary and all(char in model.vocab for char in model.vocab.normalize(_PROMPT))
        given = _PROMPT if is_known else ""
    try:
        return model.vocab.decode(model.vocab.encode(given))
    except UnknownCharacterError as error:
        raise KnockError(f"{error.problem}; choose another --prompt") from error


def _steps() -> list[tuple[str, Callable[[Tour], None]]]:
    from knock.cli.demo.drawing import next_character, temperature, top_p
    from knock.cli.demo.entropy import entropy_rule
    from knock.cli.demo.loops import loops
    from knock.cli.demo.reading import heads, heat

    return [
        ("What comes next", next_character),
        ("Temperature: from safe to bold", temperature),
        ("Greedy text repeats itself", loops),
        ("Top-p leaves the unlikely out", top_p),
        ("The entropy rule holds its target", entropy_rule),
        ("What surprises the model", heat),
        ("Where the model looks", heads),
    ]


def _take_tour(tour: Tour, *, is_paused: bool) -> int:
    """Run the steps; return the exit code."""
    from knock.cli.demo.page import heading, row, say

    steps = _steps()
    for number, (title, step) in enumerate(steps, 1):
        heading(f"{number} of {len(steps)}. {title}")
        step(tour)
        if is_paused and number < len(steps) and not _goes_on():
            return 0
    say("To go on from here:")
    for line, what in _NEXT:
        row(line, what, max(len(line) for line, _ in _NEXT) + 2)
    return 0


def _is_paused(options: argparse.Namespace) -> bool:
    """Whether to wait for Enter after each step: only if a user can read the request and answer it."""
    from knock.cli.repl import on_terminal

    return on_terminal() and not (options.no_pause or options.quiet)


def _goes_on() -> bool:
    """Ask whether to go on to the next step; Ctrl-D and q stop."""
    write("\n" + styled("Enter: go on, q: stop ", "dim", sys.stdout))
    answer = sys.stdin.readline()
    if not answer:
        write("\n")
    return bool(answer) and answer.strip().lower() not in ("q", "quit", "stop", "exit")
