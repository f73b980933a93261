"""Generate text from a model.

The prompt and its continuation are written to standard output as they are generated.
"""

from __future__ import annotations

import argparse
import sys

from knock.choices import UNKNOWN
from knock.cli.ui.options import (
    add_backend_argument,
    add_sampling_arguments,
    prompt_text,
    sampling_options,
    unescape,
    whole_number,
)
from knock.cli.ui.terminal import columns, for_output, say, write
from knock.models import DEFAULT

EXAMPLES = r"""examples:
  knock generate "ROMEO:"
  knock generate "ROMEO:" --seed 7 --temperature 0.8 --top-p 0.95 --stop "\n\n"
  knock generate "To be" --entropy 2.0 --stats
  echo "First Citizen:" | knock generate - --length 1000 --model my.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("prompt", nargs="?", default="", metavar="PROMPT",
                        help="text to continue; - reads standard input (default: start a new line)")  # fmt: skip
    parser.add_argument("--model", default=DEFAULT, help=f"a shipped model, a file or a folder (default: {DEFAULT})")
    parser.add_argument("--length", type=whole_number(0), default=300, metavar="N",
                        help="characters to generate (default: 300)")  # fmt: skip
    parser.add_argument("--seed", type=whole_number(0, 2**64 - 1), metavar="N",
                        help="seed; the same seed gives the same text (default: random)")  # fmt: skip
    parser.add_argument("--stop", type=unescape, action="append", metavar="TEXT",
                        help=r"stop before TEXT would appear; \n is a newline; can be repeated")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters that the model does not know (default: error)")  # fmt: skip
    parser.add_argument("--stats", action="store_true", help="print statistics on standard error")
    add_backend_argument(parser)
    add_sampling_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Generate and print the text."""
    from knock.cli.ui.stats_box import stats_box
    from knock.language_model import load

    prompt = prompt_text(options.prompt)
    stream = load(options.model, backend=options.backend).stream(
        prompt,
        max_new_tokens=options.length,
        sampling=options.sampling,
        seed=options.seed,
        stop=options.stop,
        unknown=options.unknown,
        **sampling_options(options),
    )
    last = prompt
    try:
        write(for_output(prompt))
        for last in stream:
            write(for_output(last))
    finally:
        if last and not last.endswith("\n") and sys.stdout is not None and sys.stdout.isatty():
            write("\n")
    if options.seed is None and sys.stderr.isatty():
        say(f"seed {stream.seed}")
    if options.stats:
        say(stats_box(stream.stats, columns()))
    return 0
