"""Generate text from a model.

The prompt and its continuation are written to standard output as they are generated. A model of items writes one item,
which PROMPT begins.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from knock.choices import UNKNOWN
from knock.cli.ui.options import (
    add_backend_argument,
    add_constraint_arguments,
    add_escapes_argument,
    add_model_argument,
    add_precision_argument,
    add_sampling_arguments,
    add_seed_argument,
    constraint_options,
    hint_at_escapes,
    prompt_text,
    sampling_options,
    whole_number,
)
from knock.cli.ui.style import styled
from knock.cli.ui.terminal import columns, for_output, say, write
from knock.escapes import unescape

if TYPE_CHECKING:
    from knock.generation.results import Generation, TextStream

EXAMPLES = r"""examples:
  knock generate "ROMEO:"
  knock generate "ROMEO:" --seed 7 --temperature 1 --top-p 0.9 --stop "\n\n"
  knock generate "To be" --entropy 2.0 --stats
  knock generate -e "ROMEO:\nO, " -n 80 -t 0.5 --only-new
  knock generate "KING " --pattern "[A-Z ]+:" --exact
  echo "First Citizen:" | knock generate - --length 1000 --model my.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("prompt", nargs="?", default="", metavar="PROMPT",
                        help="text to continue; - reads standard input, with the newline that echo adds and "
                             "printf does not (default: start a new line, or a new item)")  # fmt: skip
    add_model_argument(parser)
    parser.add_argument("-n", "--length", type=whole_number(0), default=300, metavar="N",
                        help="characters to generate (default: 300)")  # fmt: skip
    add_seed_argument(parser, "seed that determines the text, on every CPU (default: random)")
    add_escapes_argument(parser)
    parser.add_argument("--only-new", action="store_true", help="leave the prompt out of the output")
    parser.add_argument("--stop", type=unescape, action="append", metavar="TEXT",
                        help=r"stop before TEXT would appear, not counting PROMPT; \n is a newline; can be "
                             "repeated")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that the model does not know (default: error)")  # fmt: skip
    parser.add_argument("--stats", action="store_true", help="print statistics on standard error")
    add_backend_argument(parser)
    add_precision_argument(parser)
    add_constraint_arguments(parser)
    add_sampling_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Generate and print the text."""
    from knock.cli.ui.stats_box import stats_box
    from knock.language_model import load
    from knock.sampling import Sampling

    prompt = prompt_text(options.prompt, escapes=options.escapes)
    model = load(options.model, backend=options.backend, precision=options.precision)
    sampling = Sampling.preset(options.sampling, sampling_options(options))  # type: ignore[arg-type]
    constraint = constraint_options(options)
    if not prompt and not constraint:
        from knock.cli.ui.greedy import blank_notice

        if notice := blank_notice(model, prompt, sampling):
            say(f"knock: {notice}")
    settings = {
        "max_new_tokens": options.length, "sampling": sampling, "seed": options.seed, "stop": options.stop,
        "unknown": options.unknown, **constraint,
    }  # fmt: skip
    with hint_at_escapes(prompt):
        result: TextStream | Generation
        if options.exact:
            from knock.cli.ui.progress import Heartbeat

            with Heartbeat(say) as heartbeat:
                heartbeat.doing("drawing texts until one matches")
                result = model.generate(prompt, **settings)
            pieces = iter([result.text])
        else:
            pieces = result = model.stream(prompt, **settings)
    last, started = "", time.perf_counter()
    try:
        if not options.only_new:
            last = prompt
            write(styled(for_output(prompt), "bold", sys.stdout))
        for last in pieces:
            write(for_output(last))
    finally:
        if last and not last.endswith("\n") and sys.stdout is not None and sys.stdout.isatty():
            write("\n")
    if options.stats:
        seconds = None if options.exact else time.perf_counter() - started
        say(stats_box(result.stats, columns(), ending=_ending(result, seconds)), is_essential=True)
    elif options.seed is None and sys.stderr.isatty():
        say(f"seed {result.seed}")
    return 0


def _ending(result: TextStream | Generation, seconds: float | None) -> list[tuple[str, str]]:
    """Return the rows of the statistics that concern the end of a text: labels and values."""
    from knock.cli.ui.stats_box import ENDED_BY

    characters, reason = result.stats["tokens"], result.finish_reason or ""
    speed = [] if seconds is None else [("Characters/s:", f"{characters / max(seconds, 1e-9):,.0f}")]
    return [
        ("Characters:", f"{characters:,}"),
        *speed,
        ("Ended by:", ENDED_BY.get(reason, reason)),
        ("Seed:", str(result.seed)),
    ]
