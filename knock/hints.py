"""Hints for misspelt names, and for misnamed arguments: what other libraries call them, and what knock does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import ParamSpec, TypeVar

from knock.errors import SamplingError

P = ParamSpec("P")
R = TypeVar("R")

_CUTOFF = 0.7  # similarity of a suggestion, from 0 to 1

# Each means the number of characters or tokens of a text.
LENGTHS = ("length", "max_completion_tokens", "max_new_tokens", "max_tokens", "n_predict", "n_tokens",
           "num_tokens")  # fmt: skip
COUNTS = ("best_of", "count", "n", "num_return_sequences", "num_samples")
STOPS = ("stop_sequences", "stop_strings")
PATTERNS = ("regex", "regexp")
OF_BATCHES = ("keep_errors", "keep_rejected", "progress", "threads")
OF_ITEMS = ("accept", "keep_cut", "max_overlap", "novel", "tries", "unique")


def hint_at(names: Mapping[str, str], options: type | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function raise a helpful error for keyword arguments that go by another name.

    Args:
        names: what to write, by the misnomer. The function's own parameters are left alone.
        options: the TypedDict of the function's `**options`, whose names alone are then allowed beside its parameters.
            If None, names that are not in `names` are left to the function.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code = function.__code__
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        known = {*own, *(() if options is None else options.__annotations__)} - {"self"}
        hints = {wrong: right for wrong, right in names.items() if wrong not in known}

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name in hints or (options is not None and name not in known):
                    raise SamplingError(f"{function.__name__} has no argument {name!r}; {_advice(name, hints, known)}")
            return function(*args, **kwargs)

        return checked

    return decorate


def _advice(name: str, hints: Mapping[str, str], known: Iterable[str]) -> str:
    if name in hints:
        return f"use {hints[name]}"
    meant = suggestion(name, known)
    return f"its arguments are {', '.join(sorted(known))}" if meant is None else f"did you mean {meant}?"


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None if none is alike."""
    import difflib  # here, since only mistakes need it

    return next(iter(difflib.get_close_matches(name, list(known), 1, _CUTOFF)), None)
