"""Options shared by several commands, and argument types."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from knock.choices import BACKENDS, DEFAULT_PRECISION, ENTROPY_RULES, PRECISIONS, PRESET_NAMES
from knock.cli.ui.terminal import read_input
from knock.errors import UnknownCharacterError
from knock.escapes import unescape
from knock.models import DEFAULT
from knock.validation import bounds, is_between, shown

Value = TypeVar("Value")


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """Add the `--backend` option."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="numpy: NumPy alone; compiled: the kernels; auto: the kernels when they pay off "
        "(default: KNOCK_BACKEND if set, otherwise auto)",
    )


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    """Add the `--precision` option."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=DEFAULT_PRECISION,
        help="int16: products of integers, the same results on every CPU and backend; int8: smaller integers, faster "
        f"and less accurate; float32: the same results on CPUs with FMA (default: {DEFAULT_PRECISION})",
    )


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for every sampling control; controls that are not given keep the value of the preset."""
    group = parser.add_argument_group(
        "sampling",
        "Controls apply in this order: bias, constraints, repetition, top-n-sigma, temperature, top-k, typical-p, "
        "top-p, min-p.",
    )
    group.add_argument(
        "--sampling",
        choices=PRESET_NAMES,
        default="balanced",
        metavar="NAME",
        help=f"preset to start from: {', '.join(PRESET_NAMES)}. balanced is temperature 0.8 and top-p 0.95, basic the "
        "model's own distribution (default: balanced)",
    )

    def control(name: str, type_: Callable[[str], Any], metavar: str, help_: str, *short: str, **more: Any) -> None:
        group.add_argument(*short, name, type=type_, metavar=metavar, default=argparse.SUPPRESS, help=help_, **more)

    control("--temperature", number, "X", "divide the logits by X; 0 is greedy (default: 0.8)", "-t")
    control("--top-k", whole_number(0), "K", "keep the K most likely characters; 0 turns it off", "-k")
    control("--top-p", number, "P", "keep the most likely characters with total probability P; 1 turns it off "
            "(default: 0.95)", "-p")  # fmt: skip
    control("--min-p", number, "P", "keep characters at least P times as likely as the most likely; 0 turns it off")
    control("--typical-p", number, "P", "keep the most typical characters with total probability P; 1 turns it off")
    control("--top-n-sigma", number, "N", "keep logits within N standard deviations of the largest; 0 turns it off")
    control("--entropy", number, "BITS", "choose the temperature at each step so that the entropy is BITS",
            dest="target_entropy")  # fmt: skip
    control("--entropy-rule", str, "RULE", "exact, or ratio for sqrt(BITS / entropy) (default: exact)",
            choices=ENTROPY_RULES)  # fmt: skip
    control("--min-temp", number, "X", "lowest temperature of the entropy rule (default: 0.3)")
    control("--max-temp", number, "X", "highest temperature of the entropy rule (default: 2)")
    control("--mirostat", number, "BITS", "keep the surprise near BITS per character (mirostat 2)")
    control("--mirostat-eta", number, "X", "learning rate of mirostat (default: 0.1)")
    control("--no-repeat-ngram", whole_number(0), "N", "never repeat a run of N characters; 0 turns it off")
    control("--dry-multiplier", number, "X", "subtract at least X from the logits of characters that would lengthen a "
            "repetition (DRY); 0 turns it off, 0.8 is usual")  # fmt: skip
    control("--dry-base", number, "X", "factor of that penalty for each further character of the repetition (default: "
            "1.75)")  # fmt: skip
    control(
        "--dry-allowed-length",
        whole_number(1),
        "N",
        "characters of the shortest repetition that DRY penalises (default: 8)",
    )
    control("--repetition-range", whole_number(0), "N", "look for repetitions in the last N characters only; 0 "
            "is all of the text, PROMPT included")  # fmt: skip
    group.add_argument("--bias", type=_bias, metavar="CHAR=X", action="append", dest="logit_bias",
                       help=r"add X to the logit of CHAR; -inf bans it, \n is a newline; can be repeated")  # fmt: skip


def add_constraint_arguments(parser: argparse.ArgumentParser, *, is_drawn: bool = True) -> None:
    """Add the options for what a text must match, which `constraint_options` reads.

    Args:
        parser: the parser of a command.
        is_drawn: whether texts are drawn, so that they can be drawn exactly.
    """
    group = parser.add_argument_group(
        "constraints",
        "What a text must match: in a model of items the whole item with PROMPT, otherwise the text after PROMPT."
        + (
            " Characters after which it could not match are never drawn. That changes how probable texts are among "
            "themselves; to keep it, --exact draws freely and drops texts that do not match."
            if is_drawn
            else ""
        ),
    )
    group.add_argument("--pattern", metavar="REGEX",
                       help="the whole text must match REGEX, as by Python's re.fullmatch; lookaround, backreferences, "
                            r"\b, and atomic or possessive parts are not supported")  # fmt: skip
    group.add_argument("--min-length", type=whole_number(0), metavar="N",
                       help="fewest characters, without that of --stop")  # fmt: skip
    group.add_argument("--max-length", type=whole_number(0), metavar="N",
                       help="most characters; a text that can end by itself, with --stop or its item, does so by "
                            "then")  # fmt: skip
    group.add_argument("--ban", type=unescape, action="append", metavar="TEXT",
                       help=r"the text must not contain TEXT; \n is a newline; can be repeated")  # fmt: skip
    group.add_argument("--keep-stop", action="store_true", help="keep the string of --stop at the end of the text")
    if is_drawn:
        group.add_argument(
            "--exact", action="store_true", help="draw freely until a whole text matches; slow if few do"
        )


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add the `--model` option."""
    parser.add_argument(
        "-m", "--model", default=DEFAULT, help=f"a shipped model, a file or a folder (default: {DEFAULT})"
    )


def add_seed_argument(parser: argparse.ArgumentParser, help_: str) -> None:
    """Add the `--seed` option."""
    parser.add_argument("-s", "--seed", type=whole_number(0, 2**64 - 1), metavar="N", help=help_)


def add_escapes_argument(parser: argparse.ArgumentParser) -> None:
    """Add the `--escapes` option of commands that take a prompt as an argument."""
    parser.add_argument("-e", "--escapes", action="store_true",
                        help=r"read \n, \t and \\ in PROMPT as a newline, a tab and a backslash, as --stop "
                             "does")  # fmt: skip


def add_force_argument(parser: argparse.ArgumentParser) -> None:
    """Add the `--force` option of commands that write files."""
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


CONTROLS = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "target_entropy", "entropy_rule",
    "min_temp", "max_temp", "mirostat", "mirostat_eta", "no_repeat_ngram", "dry_multiplier", "dry_base",
    "dry_allowed_length", "repetition_range",
)  # fmt: skip
_CONSTRAINTS = ("pattern", "min_length", "max_length", "ban", "keep_stop", "exact")


def sampling_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the controls that were given, as keyword arguments of `Sampling`."""
    given = {name: getattr(options, name) for name in CONTROLS if hasattr(options, name)}
    if options.logit_bias:
        given["logit_bias"] = dict(options.logit_bias)
    return given


def constraint_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the constraints that were given, as keyword arguments of `Constraint`."""
    given = {name: getattr(options, name, None) for name in _CONSTRAINTS}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def prompt_text(argument: str, *, escapes: bool = False) -> str:
    """Return the prompt given on the command line, or read it from standard input if it is -.

    Args:
        argument: the argument.
        escapes: whether to replace its escapes, as `unescape` does; text from standard input is unchanged.

    Raises:
        KnockError: if standard input cannot be read.
        TextError: if the prompt is not UTF-8.
    """
    if argument == "-":
        return read_input()
    from knock.files.text import decode_utf8

    # In a locale that is not UTF-8, Python represents undecodable bytes by surrogates; fsencode restores them.
    text = decode_utf8(os.fsencode(argument), "the prompt")
    return unescape(text) if escapes else text


@contextlib.contextmanager
def hint_at_escapes(prompt: str) -> Iterator[None]:
    """Add a hint to the error for a backslash that the model does not know, if it may have begun an escape."""
    try:
        yield
    except UnknownCharacterError as error:
        if "\\" not in prompt or not error.problem.startswith("unknown character '\\\\'"):
            raise
        problem = f"{error.problem}. If it begins an escape such as \\n, pass --escapes"
        raise UnknownCharacterError(problem) from error


def whole_number(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return an argument type for whole numbers in a range."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not is_between(value, minimum, maximum):
            range_ = bounds(value, minimum, maximum)
            raise argparse.ArgumentTypeError(f"must be a whole number {range_}, got {shown(text)}")
        return value

    return parse


def path_ending_in(*suffixes: str) -> Callable[[str], str]:
    """Return an argument type for paths with one of the suffixes, in upper or lower case."""

    def parse(text: str) -> str:
        if not text.lower().endswith(suffixes):
            raise argparse.ArgumentTypeError(f"must end in {' or '.join(suffixes)}, got {shown(text)}")
        return text

    return parse


def by_block(parse: Callable[[str], Value]) -> Callable[[str], Value | tuple[Value, ...]]:
    """Return an argument type for one value, or one for each block, with commas between them.

    Args:
        parse: the argument type of a single value.
    """

    def parse_all(text: str) -> Value | tuple[Value, ...]:
        first, *others = [parse(each.strip()) for each in text.split(",")]
        return (first, *others) if others else first

    return parse_all


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Return an argument type for one of a few names, in options that may take several."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(names)}, got {shown(text)}")
        return text

    return parse


def number(text: str) -> float:
    """Argument type for numbers."""
    try:
        return float(text)
    except ValueError:
        hint = f"; write {text.replace(',', '.')}" if re.fullmatch(r"[-+]?\d*,\d+", text) else ""
        raise argparse.ArgumentTypeError(f"must be a number, got {shown(text)}{hint}") from None


def _bias(text: str) -> tuple[str, float]:
    char, _, value = text.rpartition("=")
    char = unescape(char)
    try:
        if len(char) == 1:
            return char, float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a character, =, and a number, such as e=-2, got {text!r}")
