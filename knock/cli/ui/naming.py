"""Messages of the library, with its arguments by the names of the options that set them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

# Arguments whose options have another destination.
_ALSO = {"max_new_tokens": "length"}

# A quoted value, which stays as it is; an apostrophe inside a word is no quote.
_QUOTED = r"""(?<!\w)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""


def option_names(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the long options of a command by their destinations, which are the names of the library's arguments."""
    names: dict[str, str] = {}
    for action in parser._actions:
        if (option := next((each for each in action.option_strings if each.startswith("--")), None)) is not None:
            names.setdefault(action.dest, option)
    return names | {argument: names[dest] for argument, dest in _ALSO.items() if dest in names}


def as_typed(message: str, names: Mapping[str, str]) -> str:
    """Return a message in which arguments go by the names of their options.

    A name with an underscore stands for an argument anywhere outside quotes. One that is a word of English as well does
    as the subject of a clause, as in `temperature must be ...`, or before an equals sign.

    Args:
        message: the message.
        names: options by the arguments that they set.
    """
    compound, plain = ([name for name in names if ("_" in name) == has] for has in (True, False))
    patterns = [_QUOTED, *_any_of(compound, r"(?<![\w./-]){}(?![\w-]|\.\w)")]
    patterns += _any_of(plain, r"(?:(?<=^)|(?<=[:;,] )){}(?= (?:must|was|replaces|needs|bans|takes)\b)")
    patterns += _any_of(plain, r"(?<![\w.-]){}(?==\S)")
    return re.sub("|".join(patterns), lambda match: names.get(match[0], match[0]), message)


def _any_of(names: list[str], context: str) -> list[str]:
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    return [context.format(f"(?:{'|'.join(longest_first)})")] if names else []
